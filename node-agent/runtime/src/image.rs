//! Images bundled in the root: found by reference, read, used in place. It never fetches.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// As the lower layer wants it, until the image store takes over.
impl Image {
    pub(crate) fn stored(&self) -> ingot_images::Image {
        let ImageConfig { user, env, entrypoint, cmd, working_dir } = self.config.clone();
        let config = ingot_images::ImageConfig {
            user,
            env,
            entrypoint,
            cmd,
            working_dir,
            ..ingot_images::ImageConfig::default()
        };
        let layers = vec![self.rootfs.clone()];
        ingot_images::Image { config, layers, pinned: true, ..ingot_images::Image::default() }
    }
}

/// An image that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// The unpacked tree.
    pub(crate) rootfs: PathBuf,
    /// What the image says about how to run it.
    pub(crate) config: ImageConfig,
}

/// Field `config` of an OCI image configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageConfig {
    /// `user[:group]`, by name or number; empty for root.
    pub(crate) user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) entrypoint: Vec<String>,
    /// Arguments, or the program when there is no entrypoint.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) cmd: Vec<String>,
    /// Where it starts; empty for "/".
    pub(crate) working_dir: String,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// The reference is not `repository[:tag]` with harmless characters.
    #[error("{reference:?} is not an image reference; write repository:tag")]
    Reference { reference: String },
    /// There is no such image.
    #[error("image {reference:?} is not bundled in this system; images are not fetched")]
    NotBundled { reference: String },
    /// Its configuration cannot be read.
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Its configuration is not what it should be.
    #[error("understand {path}")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl ImageError {
    /// Reason in the status of the container.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Reference { .. } => "InvalidImageName",
            Self::NotBundled { .. } => "ImageNotBundled",
            Self::Read { .. } | Self::Parse { .. } => "ImageInspectError",
        }
    }
}

/// Finds an image by reference below `images`.
pub(crate) fn find(images: &Path, reference: &str) -> Result<Image, ImageError> {
    let (repository, tag) = split(reference)
        .ok_or_else(|| ImageError::Reference { reference: reference.to_owned() })?;
    let folder = images.join(repository).join(tag);
    let path = folder.join("config.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(ImageError::NotBundled { reference: reference.to_owned() });
        }
        Err(source) => return Err(ImageError::Read { path, source }),
    };
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        config: ImageConfig,
    }
    let file: File =
        serde_json::from_slice(&bytes).map_err(|source| ImageError::Parse { path, source })?;
    Ok(Image { rootfs: folder.join("rootfs"), config: file.config })
}

/// Repository and tag. The result can be joined to a path: no empty part, no "." or "..".
fn split(reference: &str) -> Option<(&str, &str)> {
    // A colon before the last slash is a port of a registry host, not a tag.
    let (repository, tag) = match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "latest"),
    };
    let safe = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b))
    };
    (repository.split('/').all(safe) && safe(tag)).then_some((repository, tag))
}

/// Image builders write `null` for "none".
fn null_is_empty<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
