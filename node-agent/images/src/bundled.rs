//! Images bundled in the root: found, read, used in place. Nothing is ever written or fetched here.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::Error;
use crate::image::{Image, ImageConfig};
use crate::reference::Reference;

/// Folders between the top and an image at most: host, a few parts of a repository, tag.
const DEPTH_MAX: usize = 8;
/// Name of the file that makes a folder an image.
const CONFIG: &str = "config.json";

/// All images below `top`, sorted by name. Nothing there is no error; what cannot be read is left out with a warning.
pub(crate) fn list(top: &Path) -> Vec<Image> {
    let mut images = Vec::new();
    let mut folders = vec![(top.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if folder.join(CONFIG).exists() {
            match read(top, &folder) {
                Ok(image) => images.push(image),
                Err(error) => {
                    tracing::warn!(path = %folder.display(), %error, "a bundled image is left out");
                }
            }
        } else if depth < DEPTH_MAX {
            folders.extend(children(&folder).into_iter().map(|child| (child, depth + 1)));
        }
    }
    images.sort_by(|a, b| a.repo_tags.cmp(&b.repo_tags));
    images
}

fn children(folder: &Path) -> Vec<PathBuf> {
    // An absent or unreadable folder has no images.
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn read(top: &Path, folder: &Path) -> Result<Image, Error> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        config: ImageConfig,
    }
    let name = name(top, folder).unwrap_or_default();
    Reference::parse(&name)?;
    let path = folder.join(CONFIG);
    let bytes = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let file: File =
        serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path, source })?;
    // Two bundled images may have the same configuration and different files: the name is part of the id.
    let id = Digest::of(&[name.as_bytes(), b"\n", &bytes].concat());
    Ok(Image {
        id: id.to_string(),
        repo_tags: vec![name],
        layers: vec![folder.join("rootfs")],
        config: file.config,
        pinned: true,
        ..Image::default()
    })
}

/// `repository:tag` of a folder.
fn name(top: &Path, folder: &Path) -> Option<String> {
    let parts = folder.strip_prefix(top).ok()?.to_str()?;
    let (repository, tag) = parts.rsplit_once('/')?;
    Some(format!("{repository}:{tag}"))
}

#[cfg(test)]
mod tests;
