//! Tokens with which workers join: upstream's bootstrap tokens, each with all that a worker needs to know beside it. They are never
//! logged, and on no disk but as a secret of the cluster.

use super::Kubernetes;
use super::addons::refusal;
use super::authorities::Authorities;
use super::client::{Call, Client};
use super::record::Record;
use anyhow::Context as _;
use ingot_machine_config::Secret;
use ingot_machine_config::join::JoinToken;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use std::time::SystemTime;

/// The group of whoever shows a token: it may ask for a node's first certificate.
const GROUP: &str = "system:bootstrappers:ingot";
/// Letters of the part that names a token, and of the part that is secret.
const LENGTHS: (usize, usize) = (6, 16);

/// A new bootstrap token, `ID.SECRET`.
///
/// # Errors
/// When the machine has no random bytes.
pub(crate) fn draw() -> anyhow::Result<Secret> {
    Ok(Secret::new(format!("{}.{}", letters(LENGTHS.0)?, letters(LENGTHS.1)?)))
}

fn letters(count: usize) -> anyhow::Result<String> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut byte = [0];
        SystemRandom::new().fill(&mut byte).map_err(|_| anyhow::anyhow!("no random bytes"))?;
        // Bytes above the last whole round of letters would make some of them likelier.
        let round = usize::from(byte[0]);
        if round < 256 - 256 % LETTERS.len()
            && let Some(letter) = LETTERS.get(round % LETTERS.len())
        {
            text.push(char::from(*letter));
        }
    }
    Ok(text)
}

/// Certificate of the cluster's authority.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn authority(kubernetes: &Kubernetes) -> anyhow::Result<String> {
    let authorities = Authorities::ensure(kubernetes.folder(), SystemTime::now())?;
    Ok(authorities.cluster.certificate().to_pem())
}

/// What a worker's config gets. `None` when the server is not one that a worker could ask.
pub(crate) fn token(
    record: &Record,
    authority: String,
    server: String,
    secret: &Secret,
) -> Option<Secret> {
    let token = JoinToken {
        cluster_id: record.id.clone(),
        cluster_name: record.name.clone(),
        servers: vec![server],
        authority,
        secret: secret.clone(),
        pod_cidrs: record.pod_cidrs.clone(),
        service_cidrs: record.service_cidrs.clone(),
        dns_domain: record.dns_domain.clone(),
    };
    let text = token.to_text();
    JoinToken::parse(&text).is_ok().then_some(text)
}

/// Tells the API server of a bootstrap token.
///
/// # Errors
/// When it does not answer, or refuses.
pub(crate) async fn allow(
    client: &Client,
    secret: &Secret,
    expires_at: SystemTime,
) -> anyhow::Result<()> {
    let object = object(secret, expires_at)?;
    let call = Call::post("/api/v1/namespaces/kube-system/secrets", serde_json::to_vec(&object)?);
    let answer = client.call(call).await?;
    anyhow::ensure!(answer.status.is_success(), "{}", refusal(answer.status, &answer.body));
    Ok(())
}

fn object(secret: &Secret, expires_at: SystemTime) -> anyhow::Result<Value> {
    let (id, rest) = secret.expose().split_once('.').context("a token has two parts")?;
    let expires_at = jiff::Timestamp::try_from(expires_at)?;
    let expiration = jiff::Timestamp::from_second(expires_at.as_second())?.to_string();
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "description": "made by ingotctl join-token",
            "token-id": id,
            "token-secret": rest,
            "expiration": expiration,
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": GROUP,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::tests::cluster;
    use std::time::Duration;

    #[test]
    fn every_token_is_another_one_of_upstreams_shape() {
        let (one, two) = (draw().unwrap(), draw().unwrap());
        assert_ne!(one, two);
        let parts: Vec<_> = one.expose().split('.').map(str::len).collect();
        assert_eq!(parts, [6, 16]);
    }

    #[test]
    fn a_worker_is_told_where_the_cluster_is_and_whom_to_trust() {
        let secret = draw().unwrap();
        let make = |server: &str| token(&cluster().record, "PEM".into(), server.into(), &secret);
        let text = make("10.0.2.15:6443").unwrap();
        let read = JoinToken::parse(&text).unwrap();
        assert_eq!(
            (read.cluster_id.as_str(), read.authority.as_str()),
            ("0123456789abcdef", "PEM")
        );
        assert_eq!(read.secret, secret);
        assert!(make("no address").is_none());
    }

    #[test]
    fn the_api_server_forgets_it_in_time() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_500);
        let object = object(&Secret::new("abcdef.0123456789abcdef"), at).unwrap();
        assert_eq!(object["metadata"]["name"], "bootstrap-token-abcdef");
        assert_eq!(object["stringData"]["expiration"], "2027-01-15T08:00:00Z");
        assert_eq!(object["stringData"]["usage-bootstrap-authentication"], "true");
        assert!(object["stringData"]["usage-bootstrap-signing"].is_null());
    }
}
