//! The `kind: ConfigMap` and `kind: Secret` documents: files and variables for pods, with upstream's field names.

use super::is_default;
use crate::format;
use crate::secret::Secret;
use crate::v1::pod::{Metadata, PodApiVersion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Files and variables for pods, that anybody may see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMap {
    /// Version of the Kubernetes API it is written in.
    pub api_version: PodApiVersion,
    /// Says that this document is a ConfigMap.
    pub kind: ConfigMapKind,
    /// Name and namespace.
    pub metadata: Metadata,
    /// Texts by key.
    #[schemars(extend("propertyNames" = { "format": "data-key" }))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Bytes in base64 by key.
    #[schemars(extend("propertyNames" = { "format": "data-key" }), with = "BTreeMap<String, format::Base64>")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binary_data: BTreeMap<String, String>,
    /// Accepted and ignored: the config says what it is.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub immutable: bool,
}

/// The kind of a ConfigMap document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ConfigMapKind {
    /// A ConfigMap.
    #[default]
    ConfigMap,
}

/// Files and variables for pods, that are never shown: whoever asks the node for its config gets `<redacted>` instead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretData {
    /// Version of the Kubernetes API it is written in.
    pub api_version: PodApiVersion,
    /// Says that this document is a Secret.
    pub kind: SecretKind,
    /// Name and namespace.
    pub metadata: Metadata,
    /// What it is for, like `Opaque` or `kubernetes.io/dockerconfigjson`.
    #[schemars(extend("default" = "Opaque"))]
    #[serde(default = "opaque", rename = "type", skip_serializing_if = "is_opaque")]
    pub kind_of_data: String,
    /// Bytes in base64 by key.
    #[schemars(extend("propertyNames" = { "format": "data-key" }), with = "BTreeMap<String, format::SecretBase64>")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Secret>,
    /// Texts by key; of a key that is also in `data`, this one counts.
    #[schemars(extend("propertyNames" = { "format": "data-key" }))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub string_data: BTreeMap<String, Secret>,
    /// Accepted and ignored: the config says what it is.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub immutable: bool,
}

/// The kind of a Secret document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SecretKind {
    /// A Secret.
    #[default]
    Secret,
}

/// The type of Secrets that hold credentials for registries, in the one key [`DOCKER_CONFIG_KEY`].
pub const DOCKER_CONFIG_TYPE: &str = "kubernetes.io/dockerconfigjson";

/// The key of such a Secret.
pub const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";

impl ConfigMap {
    /// Name with namespace: `default/web`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    /// Its bytes by key.
    #[must_use]
    pub fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let texts = self.data.iter().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
        let binary = self.binary_data.iter();
        // The loader has looked at every text.
        texts
            .chain(binary.map(|(key, text)| (key.clone(), decode(text).unwrap_or_default())))
            .collect()
    }
}

impl SecretData {
    /// Name with namespace: `default/web`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    /// Its bytes by key. The caller promises not to log them.
    #[must_use]
    pub fn expose(&self) -> BTreeMap<String, Vec<u8>> {
        let binary = self.data.iter();
        // The loader has looked at every text.
        let binary =
            binary.map(|(key, text)| (key.clone(), decode(text.expose()).unwrap_or_default()));
        let texts = self.string_data.iter();
        binary
            .chain(texts.map(|(key, text)| (key.clone(), text.expose().as_bytes().to_vec())))
            .collect()
    }
}

/// The bytes of a text in base64 (RFC 4648, with padding; line breaks and spaces are passed over). `None` when it is none.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0_u32, 0_u32, 0_u32);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = (bits << 6) | u32::from(value);
        count += 1;
        if count == 4 {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    match (count, padding) {
        (0, 0) => {}
        (2, 2) if bits & 0xf == 0 => bytes.extend_from_slice(&(bits << 12).to_be_bytes()[1..2]),
        (3, 1) if bits & 0x3 == 0 => bytes.extend_from_slice(&(bits << 6).to_be_bytes()[1..3]),
        _ => return None,
    }
    Some(bytes)
}

fn opaque() -> String {
    "Opaque".to_owned()
}

fn is_opaque(kind: &str) -> bool {
    kind == "Opaque"
}
