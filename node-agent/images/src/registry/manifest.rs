//! Manifests, indexes and configurations: what they say, if they say it clearly. Data only.

use serde::Deserialize;

use crate::config::Limits;
use crate::digest::Digest;
use crate::image::ImageConfig;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIGS: [&str; 3] = [
    "",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
/// Platform of this node.
const PLATFORM: (&str, &str) = ("linux", "amd64");
/// Entries of an index that are looked at.
const ENTRIES_MAX: usize = 1000;

/// What a registry is asked for, everything else is refused anyway.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A document of an image that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of the image {problem}")]
pub struct ManifestError {
    what: &'static str,
    problem: String,
}

/// A part of an image, as another part names it. Where else it might be found is not read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
    variant: String,
}

/// A manifest, or a choice of some.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Manifest {
    /// One image: configuration, and layers from the bottom up.
    Image { config: Descriptor, layers: Vec<Descriptor> },
    /// The image for this node, among others.
    Index(Descriptor),
}

/// A configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) config: ImageConfig,
    /// Digests of the archives in the layers, from the bottom up.
    pub(crate) diff_ids: Vec<Digest>,
}

impl ManifestError {
    /// An index of indexes of indexes.
    pub(crate) fn nested() -> Self {
        bad("the index", "names an index that names an index")
    }
}

fn bad(what: &'static str, problem: impl Into<String>) -> ManifestError {
    ManifestError { what, problem: problem.into() }
}

impl Manifest {
    /// Reads a manifest or index. `media_type` is what the registry said, empty when nobody did.
    pub(crate) fn parse(
        bytes: &[u8],
        media_type: &str,
        limits: &Limits,
    ) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            manifests: Option<Vec<Descriptor>>,
        }
        let bad = |problem: &str| bad("the manifest", problem);
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|e| bad(&format!("cannot be read: {e}")))?;
        if raw.schema_version != 2 {
            return Err(bad("is of a version that nobody uses any more"));
        }
        let said = media_type.split(';').next().unwrap_or_default().trim();
        let known = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];
        if known.contains(&said) && !raw.media_type.is_empty() && said != raw.media_type {
            return Err(bad("is called one thing by itself and another by the registry"));
        }
        let kind = if known.contains(&said) { said } else { &raw.media_type };
        match (raw.config, raw.layers, raw.manifests) {
            (Some(config), Some(layers), None) if ![OCI_INDEX, DOCKER_LIST].contains(&kind) => {
                Self::image(config, layers, limits)
            }
            (None, None, Some(entries)) if ![OCI_MANIFEST, DOCKER_MANIFEST].contains(&kind) => {
                choose(entries).map(Self::Index)
            }
            // One reader would take it for an image, another for an index (GHSA-5j5w-g665-5m35).
            _ => Err(bad("is neither clearly one image nor clearly a list")),
        }
    }

    fn image(
        config: Descriptor,
        layers: Vec<Descriptor>,
        limits: &Limits,
    ) -> Result<Self, ManifestError> {
        let bad = |problem: String| bad("the manifest", problem);
        if !CONFIGS.contains(&&config.media_type[..]) {
            return Err(bad(format!("is for something else: {:?}", shorten(&config.media_type))));
        }
        if config.size > limits.document_bytes {
            return Err(bad("names a configuration that is too long".into()));
        }
        if layers.len() > limits.layers {
            return Err(bad(format!("has more than {} layers", limits.layers)));
        }
        if layers.iter().any(|layer| layer.size > limits.blob_bytes) {
            return Err(bad(format!("has a layer of more than {} bytes", limits.blob_bytes)));
        }
        if layers.iter().any(|layer| layer.media_type.contains("encrypted")) {
            return Err(bad("has encrypted layers".into()));
        }
        Ok(Self::Image { config, layers })
    }
}

/// The entry for this node; of several variants the one that needs least.
fn choose(entries: Vec<Descriptor>) -> Result<Descriptor, ManifestError> {
    let rank = |entry: &Descriptor| match &entry.platform {
        None => Some(9),
        Some(p) if (&p.os[..], &p.architecture[..]) != PLATFORM => None,
        Some(p) => match &p.variant[..] {
            "" | "v1" => Some(0),
            "v2" if std::arch::is_x86_feature_detected!("sse4.2") => Some(1),
            "v3" if std::arch::is_x86_feature_detected!("avx2") => Some(2),
            _ => None,
        },
    };
    let ranked = entries.into_iter().take(ENTRIES_MAX).filter_map(|e| Some((rank(&e)?, e)));
    let best = ranked.min_by_key(|(rank, _)| *rank);
    best.map(|(_, entry)| entry).ok_or_else(|| bad("the index", "has nothing for linux/amd64"))
}

impl Config {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            os: String,
            #[serde(default)]
            architecture: String,
            #[serde(default)]
            config: Option<ImageConfig>,
            rootfs: RootFs,
        }
        #[derive(Deserialize)]
        struct RootFs {
            #[serde(default)]
            diff_ids: Option<Vec<Digest>>,
        }
        let bad = |problem: String| bad("the configuration", problem);
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|e| bad(format!("cannot be read: {e}")))?;
        let for_us = |found: &str, ours: &str| found.is_empty() || found == ours;
        if !for_us(&raw.os, PLATFORM.0) || !for_us(&raw.architecture, PLATFORM.1) {
            let (os, architecture) = (shorten(&raw.os), shorten(&raw.architecture));
            return Err(bad(format!("is for {os}/{architecture}, this node is linux/amd64")));
        }
        let diff_ids = raw.rootfs.diff_ids.unwrap_or_default();
        Ok(Self { config: raw.config.unwrap_or_default(), diff_ids })
    }

    /// One archive for each layer, or the two documents do not belong together.
    pub(crate) fn check_layers(&self, layers: usize) -> Result<(), ManifestError> {
        if self.diff_ids.len() == layers {
            return Ok(());
        }
        let found = self.diff_ids.len();
        Err(bad("the configuration", format!("has {found} layers, the manifest {layers}")))
    }
}

/// For messages: what an image says is printed, but not all of it.
fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests;
