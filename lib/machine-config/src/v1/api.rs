//! Section `api`: the machine API, its port, and the certificates that decide who may call it.

use crate::format;
use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine API: its port and who may call it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Api {
    /// TCP port of the API, on every address of the node.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The certificate authority. Callers need a certificate from it; `ingotctl gen` makes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Ca>,
    /// The node's own certificate. Needed only where `ca.key` is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// More names and addresses under which callers reach the node; they go into the certificate it makes for itself.
    #[schemars(with = "Vec<format::Host>", length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// The port the API listens on when the config does not say.
pub const DEFAULT_PORT: u16 = 50000;

impl Default for Api {
    fn default() -> Self {
        Self { port: DEFAULT_PORT, ca: None, certificate: None, names: Vec::new() }
    }
}

/// A certificate authority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ca {
    /// The authority's certificate, PEM. Several may follow each other while one replaces another.
    #[schemars(with = "format::CertificatePem")]
    pub certificate: String,
    /// The authority's private key, PEM. With it the node makes and renews its own certificate.
    #[schemars(with = "Option<format::KeyPem>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
}

/// A certificate with its private key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// The certificate, PEM, followed by intermediate ones where there are any.
    #[schemars(with = "format::CertificatePem")]
    pub certificate: String,
    /// The certificate's private key, PEM.
    #[schemars(with = "format::KeyPem")]
    pub key: Secret,
}
