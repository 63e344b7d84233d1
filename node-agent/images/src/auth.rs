//! Credentials for a registry, as the CRI hands them over. They are never printed.

use std::fmt;

/// Credentials for one pull; all empty: none.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// `username:password` in base64, as in a Docker configuration file.
    pub auth: String,
    /// OAuth2 refresh token, exchanged for a bearer token.
    pub identity_token: String,
    /// Bearer token, sent as it is.
    pub registry_token: String,
    /// Registry these are for, a host or a URL; empty: the one the image is pulled from.
    pub server_address: String,
}

impl Auth {
    /// Nothing to show to a registry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { username, password, auth, identity_token, registry_token, server_address: _ } =
            self;
        [username, password, auth, identity_token, registry_token].iter().all(|s| s.is_empty())
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Which kind it is helps; what it is must not reach a log.
        let given = |s: &String| if s.is_empty() { "" } else { "(hidden)" };
        f.debug_struct("Auth")
            .field("username", &given(&self.username))
            .field("password", &given(&self.password))
            .field("auth", &given(&self.auth))
            .field("identity_token", &given(&self.identity_token))
            .field("registry_token", &given(&self.registry_token))
            .field("server_address", &self.server_address)
            .finish()
    }
}
