//! What stands between a registry of the world and its clients: TLS with a certificate of a private authority, and tokens that are
//! bought with a password. It serves nothing itself.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use base64::Engine as _;
use ingot_pki::{Ca, SubjectName, Validity};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Answer, Body, Request};

/// Where tokens are sold.
const TOKENS: &str = "/token";
/// Long enough for any test.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A registry's door.
#[derive(Debug)]
pub struct Guard {
    tls: Arc<ServerConfig>,
    /// Name and port in the addresses that it hands out.
    authority: String,
    /// What the header says of who has the password.
    basic: String,
    /// What opens the door. Another one for each registry: a token of one is worth nothing at another.
    token: String,
}

impl Guard {
    /// The door of `host` at `port`, with a certificate of `ca`.
    pub fn new(ca: &Ca, host: &str, port: u16, user: &str, password: &str) -> anyhow::Result<Self> {
        let validity = Validity::starting(SystemTime::now(), LIFETIME);
        let names = [SubjectName::Dns(host.to_owned())];
        let identity = ca.issue_server(host, &names, validity).context("make a certificate")?;
        let key = PrivatePkcs8KeyDer::from(identity.key.pkcs8_der().to_vec());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choose versions of TLS")?
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.der().to_vec().into()], key.into())
            .context("use the certificate")?;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Ok(Self {
            tls: Arc::new(tls),
            authority: format!("{host}:{port}"),
            basic: format!("Basic {pair}"),
            token: format!("{:016x}", fastrand::u64(..)),
        })
    }

    /// The stream inside TLS. The handshake is made with the first bytes.
    pub(super) fn accept(
        &self,
        client: TcpStream,
    ) -> anyhow::Result<StreamOwned<ServerConnection, TcpStream>> {
        let connection = ServerConnection::new(Arc::clone(&self.tls)).context("begin TLS")?;
        Ok(StreamOwned::new(connection, client))
    }

    /// The answer to who may not go on, or buys a token; `None` for who may.
    pub(super) fn stop(&self, request: &Request) -> Option<Answer> {
        if request.path == TOKENS {
            let token = serde_json::json!({"token": self.token, "expires_in": 300});
            let paid = request.authorization == self.basic;
            return Some(if paid {
                json("200 OK", token)
            } else {
                refused("a password is needed")
            });
        }
        if request.authorization == format!("Bearer {}", self.token) {
            return None;
        }
        let mut answer = refused("a token is needed");
        let challenge =
            format!("Bearer realm=\"https://{}{TOKENS}\",service=\"tests\"", self.authority);
        answer.headers.push(("WWW-Authenticate", challenge));
        Some(answer)
    }
}

fn refused(message: &str) -> Answer {
    let errors = serde_json::json!({"errors": [{"code": "UNAUTHORIZED", "message": message}]});
    json("401 Unauthorized", errors)
}

fn json(status: &'static str, value: serde_json::Value) -> Answer {
    let kind = ("Content-Type", "application/json".to_owned());
    Answer { status, headers: vec![kind], body: Body::Text(value.to_string()) }
}
