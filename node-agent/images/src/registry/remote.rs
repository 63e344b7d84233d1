//! One registry or mirror: its addresses, its credentials, and the token they bought.
//!
//! Credentials go to this host, and to the address it names for tokens; never to where a download is redirected.

use std::fmt::Write as _;

use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::RegistryError;
use super::challenge::{self, Challenge};
use crate::http::{Client, Request, Response, Url, basic};

/// Tokens and error messages are far shorter, in bytes.
const ANSWER_MAX: u64 = 256 << 10;
/// Logins for one request: the first, and one more when the token was too old.
const LOGINS_MAX: usize = 2;

/// What we may show to a host.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
    pub(super) identity_token: String,
    pub(super) registry_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// A registry or mirror, for one repository.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) base: Url,
    /// Repository, with what the mirror puts before it.
    pub(super) repository: String,
    /// The registry a mirror stands for, told to it as `ns`, as other clients do.
    pub(super) mirrored: Option<String>,
    pub(super) client: Client,
    pub(super) credentials: Credentials,
    pub(super) authorization: Mutex<Option<HeaderValue>>,
}

impl Remote {
    /// As errors name it.
    pub(super) fn host(&self) -> String {
        self.base.authority()
    }

    /// Asks for `/v2/<repository>/<path>`, from a byte on if there is one, and logs in when that is wanted.
    pub(super) async fn get(
        &self,
        path: &str,
        accept: Option<&HeaderValue>,
        from: Option<u64>,
    ) -> Result<Response, RegistryError> {
        let mut target = format!("/v2/{}/{path}", self.repository);
        if let Some(mirrored) = &self.mirrored {
            let _ = write!(target, "?ns={}", escape(mirrored));
        }
        let mut request = Request::get(self.base.with_path(target));
        if let Some(accept) = accept {
            request.headers.push((header::ACCEPT, accept.clone()));
        }
        if let Some(from) = from {
            let range = HeaderValue::try_from(format!("bytes={from}-"));
            request.headers.push((header::RANGE, range.expect("digits can be sent")));
        }
        for _ in 0..=LOGINS_MAX {
            request.authorization = self.authorization.lock().await.clone();
            let response = self.client.send(&request).await?;
            if response.status.is_success() {
                return Ok(response);
            }
            if response.status != StatusCode::UNAUTHORIZED || response.elsewhere {
                return Err(self.refusal(path, response).await);
            }
            if !self.login(&response, request.authorization.as_ref()).await? {
                return Err(self.refusal(path, response).await);
            }
        }
        Err(RegistryError::Login { host: self.host(), problem: "each new token is refused" })
    }

    /// Gets what the registry wants to see. False when there is nothing that was not shown already.
    async fn login(
        &self,
        response: &Response,
        shown: Option<&HeaderValue>,
    ) -> Result<bool, RegistryError> {
        let mut authorization = self.authorization.lock().await;
        if authorization.as_ref() != shown {
            // Another request of the same pull was here first.
            return Ok(true);
        }
        if !self.credentials.registry_token.is_empty() {
            return Ok(false);
        }
        let headers = response.headers.get_all(header::WWW_AUTHENTICATE);
        let ways: Vec<Challenge> =
            headers.iter().filter_map(|h| h.to_str().ok()).flat_map(challenge::parse).collect();
        let way = |scheme: &str| ways.iter().find(|way| way.scheme == scheme);
        let value = if let Some(bearer) = way("bearer") {
            self.token(bearer).await?
        } else if way("basic").is_some() && !self.credentials.username.is_empty() {
            self.basic()?
        } else {
            return Ok(false);
        };
        if shown == Some(&value) {
            return Ok(false);
        }
        *authorization = Some(value);
        Ok(true)
    }

    fn basic(&self) -> Result<HeaderValue, RegistryError> {
        let Credentials { username, password, .. } = &self.credentials;
        basic(&format!("{username}:{password}"))
            .map_err(|_| self.trouble("the credentials have characters that cannot be sent"))
    }

    /// A token for reading this repository.
    async fn token(&self, bearer: &Challenge) -> Result<HeaderValue, RegistryError> {
        let realm = bearer.parameter("realm").ok_or_else(|| self.trouble("it names no realm"))?;
        let mut url = Url::parse(realm)?;
        if self.base.https && !url.https {
            return Err(self.trouble("it wants the credentials sent without encryption"));
        }
        let own = format!("repository:{}:pull", self.repository);
        let scope = bearer
            .parameter("scope")
            .filter(|scope| scope.starts_with("repository:") && scope.ends_with(":pull"))
            .unwrap_or(&own);
        let service = bearer.parameter("service").unwrap_or_default();
        let mut query = format!("service={}&scope={}", escape(service), escape(scope));
        let mut request = if self.credentials.identity_token.is_empty() {
            let separator = if url.path.contains('?') { '&' } else { '?' };
            let _ = write!(url.path, "{separator}{query}");
            let mut request = Request::get(url);
            if !self.credentials.username.is_empty() {
                request.authorization = Some(self.basic()?);
            }
            request
        } else {
            let token = escape(&self.credentials.identity_token);
            let _ =
                write!(query, "&grant_type=refresh_token&client_id=ingot&refresh_token={token}");
            let mut request = Request::get(url);
            request.method = Method::POST;
            request.body = query.into();
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers.push((header::CONTENT_TYPE, form));
            request
        };
        request.headers.push((header::ACCEPT, HeaderValue::from_static("application/json")));
        let response = self.client.send(&request).await?;
        if !response.status.is_success() {
            return Err(self.refusal("a token", response).await);
        }
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let bytes = response.body.bytes(ANSWER_MAX).await?;
        // The error of the parser could quote the token.
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|_| self.trouble("the token cannot be read"))?;
        let token = answer.token.filter(|t| !t.is_empty()).or(answer.access_token);
        let token = token.ok_or_else(|| self.trouble("the answer has no token"))?;
        bearer_header(&token).ok_or_else(|| self.trouble("the token cannot be sent"))
    }

    fn trouble(&self, problem: &'static str) -> RegistryError {
        RegistryError::Login { host: self.host(), problem }
    }

    /// An answer that is none, with what the registry says about it.
    async fn refusal(&self, what: &str, response: Response) -> RegistryError {
        let status = response.status;
        let host = self.host();
        let what = format!("{} of {}", what, self.repository);
        if status == StatusCode::NOT_FOUND {
            return RegistryError::NotFound { host, what };
        }
        // Nobody has to say anything, and what is said by another host than the registry counts as nothing.
        let bytes = response.body.bytes(ANSWER_MAX).await.unwrap_or_default();
        let detail = message(&bytes);
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return RegistryError::Unauthorized { host, what, detail };
        }
        RegistryError::Status { host, status: status.as_u16(), what, detail }
    }
}

/// Value of a header for a bearer token.
pub(super) fn bearer_header(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The first error in a registry's answer, short and harmless to print.
fn message(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<Problem>,
    }
    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Problem {
        code: String,
        message: String,
    }
    let Ok(Answer { errors }) = serde_json::from_slice(bytes) else { return String::new() };
    let Some(Problem { code, message }) = errors.into_iter().next() else { return String::new() };
    let text = if message.is_empty() { code } else { message };
    let clean: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if clean.is_empty() { clean } else { format!(": {clean}") }
}

/// For a query: everything but letters, digits and the few characters that mean nothing there.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
