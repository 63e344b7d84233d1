//! Section `registries`: where images come from besides the registries they are named after.

use super::is_default;
use crate::format;
use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mirrors of registries, and how to speak with a registry or mirror. Changes count for images fetched from then on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registries {
    /// Where images of a registry are looked for first. Of several that fit an image, the one with the longest name
    /// counts.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// Certificates and credentials, by host.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<RegistryHost>,
    /// Proxy for all registries and mirrors, like `http://proxy.example.org:3128`. It may hold a user name and a
    /// password.
    #[schemars(with = "Option<format::ProxyUrl>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Secret>,
    /// Hosts, and domains with everything below them, that are reached without the proxy.
    #[schemars(with = "Vec<format::Host>", length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<String>,
}

/// Where images of a registry are looked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// The registry as images name it, like `docker.io` or `registry.example.org:5000`, with a part of its
    /// repositories where only that is meant, like `registry.example.org/team`; `*` for every other registry.
    #[schemars(with = "format::RegistryPrefix")]
    pub registry: String,
    /// Addresses that are asked in this order, like `https://mirror.example.org`. A path is put before the repository.
    /// `http://` is not encrypted.
    #[schemars(with = "Vec<format::RegistryUrl>", length(min = 1, max = 8))]
    pub endpoints: Vec<String>,
    /// Never ask the registry itself.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub endpoints_only: bool,
}

/// How to speak with a registry or mirror.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryHost {
    /// The host, with its port where it has one, like `registry.example.org:5000`.
    #[schemars(with = "format::RegistryHostName")]
    pub host: String,
    /// More certificate authorities for this host, PEM, besides those every host may use.
    #[schemars(with = "Option<format::CertificatePem>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Take any certificate. Whoever is on the way can then read the password: for experiments only.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub insecure_skip_verify: bool,
    /// User name. It is used where a pod brings no credentials of its own for this host.
    #[schemars(length(min = 1, max = 255))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Token to exchange for access, instead of user name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_token: Option<Secret>,
}
