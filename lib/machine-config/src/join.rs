//! The join token: one text that a control plane makes and a worker's config holds. It says what the cluster is, where it is found,
//! whom to trust there, and holds a secret that is good for a while. Making up the secret is not done here.

use crate::secret::Secret;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What every token begins with, so that people and scanners of secrets know one when they see it.
const HEAD: &str = "ingot-join-1.";
/// Longest token: an authority's certificate is the largest part of it.
const LENGTH_MAX: usize = 8 * 1024;
/// Most API servers of a cluster.
const SERVERS_MAX: usize = 16;

/// What a worker needs to know of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    /// Tells the cluster from every other.
    pub cluster_id: String,
    /// Its name.
    pub cluster_name: String,
    /// Its API servers, as `host:port`.
    pub servers: Vec<String>,
    /// Certificate of its authority, in PEM.
    pub authority: String,
    /// The secret: a bootstrap token of Kubernetes, `ID.SECRET`.
    pub secret: Secret,
    /// Networks of pods.
    pub pod_cidrs: Vec<IpNet>,
    /// Networks of services.
    pub service_cidrs: Vec<IpNet>,
    /// Domain of services and pods.
    pub dns_domain: String,
}

/// Why a text is no join token. Says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// Something else.
    #[error("is no join token: one begins with \"{HEAD}\"")]
    NotOne,
    /// Cut or changed on its way.
    #[error("is a join token that was cut or changed on its way")]
    Damaged,
}

impl JoinToken {
    /// The token as a text.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        // Plain values: nothing can fail to print.
        let json = serde_json::to_vec(self).unwrap_or_default();
        Secret::new(format!("{HEAD}{}", BASE64_URL_SAFE_NO_PAD.encode(json)))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// When it is none, or not whole.
    pub fn parse(text: &Secret) -> Result<Self, JoinTokenError> {
        let text = text.expose().trim();
        let rest = text.strip_prefix(HEAD).ok_or(JoinTokenError::NotOne)?;
        if text.len() > LENGTH_MAX {
            return Err(JoinTokenError::Damaged);
        }
        let json = BASE64_URL_SAFE_NO_PAD.decode(rest).map_err(|_| JoinTokenError::Damaged)?;
        let token: Self = serde_json::from_slice(&json).map_err(|_| JoinTokenError::Damaged)?;
        if token.is_plausible() { Ok(token) } else { Err(JoinTokenError::Damaged) }
    }

    /// Whether every part has the shape that others count on.
    fn is_plausible(&self) -> bool {
        let host = |server: &String| {
            let harmless = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
            server.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok() && host.chars().all(harmless)
            })
        };
        let lower = |text: &str, length: usize| {
            let one = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            text.len() == length && text.chars().all(one)
        };
        let secret = self.secret.expose().split_once('.');
        (1..=SERVERS_MAX).contains(&self.servers.len())
            && self.servers.iter().all(host)
            && !self.cluster_id.is_empty()
            && !self.pod_cidrs.is_empty()
            && !self.service_cidrs.is_empty()
            && secret.is_some_and(|(id, rest)| lower(id, 6) && lower(rest, 16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            cluster_id: "0123456789abcdef".into(),
            cluster_name: "ingot".into(),
            servers: vec!["10.0.2.15:6443".into(), "[fd00::1]:6443".into()],
            authority: "-----BEGIN CERTIFICATE-----".into(),
            secret: Secret::new("abcdef.0123456789abcdef"),
            pod_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
            dns_domain: "cluster.local".into(),
        }
    }

    #[test]
    fn a_token_is_one_word_and_is_read_back() {
        let text = token().to_text();
        assert!(text.expose().starts_with("ingot-join-1."));
        assert!(!text.expose().contains(char::is_whitespace));
        assert_eq!(JoinToken::parse(&text), Ok(token()));
        let pasted = Secret::new(format!(" {}\n", text.expose()));
        assert_eq!(JoinToken::parse(&pasted), Ok(token()));
    }

    #[test]
    fn a_token_that_was_cut_or_is_something_else_is_none() {
        let text = token().to_text();
        assert_eq!(JoinToken::parse(&Secret::new("K10abc")), Err(JoinTokenError::NotOne));
        for length in (HEAD.len()..text.expose().len()).step_by(7) {
            let cut = Secret::new(&text.expose()[..length]);
            assert_eq!(JoinToken::parse(&cut), Err(JoinTokenError::Damaged), "{length}");
        }
        let long = Secret::new(format!("{HEAD}{}", "A".repeat(LENGTH_MAX)));
        assert_eq!(JoinToken::parse(&long), Err(JoinTokenError::Damaged));
    }

    #[test]
    fn parts_of_another_shape_are_not_believed() {
        let wrong: [fn(&mut JoinToken); 5] = [
            |token| token.servers.clear(),
            |token| token.servers = vec!["10.0.2.15".into()],
            |token| token.servers = vec!["a b:6443".into()],
            |token| token.secret = Secret::new("abcdef.SHORT"),
            |token| token.pod_cidrs.clear(),
        ];
        for change in wrong {
            let mut token = token();
            change(&mut token);
            assert_eq!(JoinToken::parse(&token.to_text()), Err(JoinTokenError::Damaged));
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", token()).contains("0123456789abcdef\")"));
        assert!(format!("{:?}", token()).contains("<redacted>"));
    }
}
