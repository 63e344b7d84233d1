//! What the node says about an image it has. Data only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

/// An image that is there, complete and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:<digest of the image's configuration>`.
    pub id: String,
    /// `repository:tag`, normalised; those of bundled images as they are written in the root.
    pub repo_tags: Vec<String>,
    /// `repository@sha256:...`, the digest of the manifest or index it was pulled by.
    pub repo_digests: Vec<String>,
    /// Unpacked layers in bytes; 0 for bundled images, which take no space of their own.
    pub size_bytes: u64,
    /// How to run it.
    pub config: ImageConfig,
    /// Lower folders for an overlay, top first. Empty for an image without layers.
    pub layers: Vec<PathBuf>,
    /// Part of the system; garbage collection leaves it alone.
    pub pinned: bool,
}

/// Field `config` of an OCI image configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`, by name or number; empty for root.
    #[serde(deserialize_with = "null_is_empty")]
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(deserialize_with = "null_is_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments, or the program when there is no entrypoint.
    #[serde(deserialize_with = "null_is_empty")]
    pub cmd: Vec<String>,
    /// Where it starts; empty for "/".
    #[serde(deserialize_with = "null_is_empty")]
    pub working_dir: String,
    /// Signal that asks it to end, by name or number; empty for SIGTERM.
    #[serde(deserialize_with = "null_is_empty")]
    pub stop_signal: String,
    /// Paths that hold data of their own, as the image claims: resolve them inside the root only (CVE-2022-23648).
    #[serde(with = "keys")]
    pub volumes: Vec<String>,
    /// For people and tools; nothing in the runtime may act on a label (CVE-2026-53488).
    #[serde(deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Image builders write `null` for "none".
fn null_is_empty<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// A set, written as an object with empty values.
mod keys {
    use std::collections::BTreeMap;

    use serde::de::IgnoredAny;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
        let map: Option<BTreeMap<String, IgnoredAny>> = Option::deserialize(d)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }

    pub(super) fn serialize<S: Serializer>(keys: &[String], s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(keys.iter().map(|key| (key, serde_json::Map::new())))
    }
}
