//! The store: one snapshot of all images that reads never wait for, and the operations that change it.
//!
//! A snapshot is replaced as a whole; whoever has one keeps it. Layers of an image somebody holds are never deleted.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::auth::Auth;
use crate::bundled;
use crate::config::StoreConfig;
use crate::error::Error;
use crate::image::Image;
use crate::reference::Reference;

/// Shortest beginning of an id that is taken for one.
const PREFIX_MIN: usize = 3;

/// Handle on the store; clones are the same store.
#[derive(Clone, Debug)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: StoreConfig,
    snapshot: watch::Sender<Arc<Vec<Arc<Image>>>>,
    holds: Mutex<HashMap<String, usize>>,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of layers that have arrived.
    pub bytes: u64,
    /// Bytes of layers in all, as the manifest says; 0 until it is known.
    pub bytes_total: u64,
}

/// What the store takes of its file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Folder on the file system.
    pub mountpoint: PathBuf,
    /// Bytes of all layers and documents.
    pub bytes: u64,
    /// Files, folders and links.
    pub inodes: u64,
}

/// Keeps an image's layers while it lives.
#[derive(Debug)]
pub struct Hold {
    image: Arc<Image>,
    inner: Arc<Inner>,
}

impl Deref for Hold {
    type Target = Arc<Image>;

    fn deref(&self) -> &Arc<Image> {
        &self.image
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.inner.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = holds.get_mut(&self.image.id) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.image.id);
            }
        }
    }
}

impl ImageStore {
    /// Opens the store and removes what an interrupted pull left. Layers stay until [`Self::gc`] is called: whoever
    /// has running containers takes its [`Self::hold`]s first.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub async fn open(config: StoreConfig) -> Result<Self, Error> {
        let top = config.bundled.clone();
        let images = tokio::task::spawn_blocking(move || bundled::list(&top))
            .await
            .map_err(|_| Error::Abandoned)?;
        let images: Vec<_> = images.into_iter().map(Arc::new).collect();
        let inner = Inner {
            config,
            snapshot: watch::Sender::new(Arc::new(images)),
            holds: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// All images at this moment. Costs the same however many there are.
    #[must_use]
    pub fn list(&self) -> Arc<Vec<Arc<Image>>> {
        self.inner.snapshot.borrow().clone()
    }

    /// Finds an image by tag, digest, id, or the beginning of an id that only one image has.
    #[must_use]
    pub fn find(&self, reference_or_id: &str) -> Option<Arc<Image>> {
        find(&self.list(), reference_or_id).cloned()
    }

    /// Fetches an image, unless it is bundled. Two calls for the same join; a call that is dropped does not stop the
    /// work, which ends by itself.
    ///
    /// # Errors
    /// When the registry does not give the image, or the image is not acceptable, or the disk is full.
    pub async fn pull(
        &self,
        reference: &str,
        auth: &Auth,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<Arc<Image>, Error> {
        let _ = (auth, progress);
        let reference = Reference::parse(reference)?;
        self.find(&reference.to_string())
            .ok_or_else(|| Error::NotHere { reference: reference.to_string() })
    }

    /// Removes an image with all its names. An image that is not there is removed already; the layers of one that
    /// somebody holds go when nobody does.
    ///
    /// # Errors
    /// For bundled images, and when the disk refuses.
    pub async fn remove(&self, reference_or_id: &str) -> Result<(), Error> {
        match self.find(reference_or_id) {
            Some(image) if image.pinned => {
                Err(Error::Bundled { reference: reference_or_id.to_owned() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What the store takes on its file system. Counted when images come and go, not when asked.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { mountpoint: self.inner.config.root.clone(), ..Usage::default() }
    }

    /// Deletes layers that no image has and nobody holds. Returns the bytes freed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn gc(&self) -> Result<u64, Error> {
        Ok(0)
    }

    /// Keeps the image with this id (as [`Image::id`]) until the result is dropped, even when it is removed.
    #[must_use]
    pub fn hold(&self, id: &str) -> Option<Hold> {
        let image = self.list().iter().find(|image| image.id == id).cloned()?;
        let mut holds = self.inner.holds.lock().unwrap_or_else(PoisonError::into_inner);
        *holds.entry(image.id.clone()).or_default() += 1;
        Some(Hold { image, inner: self.inner.clone() })
    }
}

/// Id, name, or beginning of an id, in this order.
fn find<'a>(images: &'a [Arc<Image>], text: &str) -> Option<&'a Arc<Image>> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let id_of = |image: &'a Arc<Image>| image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    let hexadecimal =
        digits.len() <= 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if hexadecimal && let Some(image) = images.iter().find(|image| id_of(image) == digits) {
        return Some(image);
    }
    if let Ok(reference) = Reference::parse(text)
        && let Some(image) = images.iter().find(|image| has_name(image, &reference))
    {
        return Some(image);
    }
    if !hexadecimal || digits.len() < PREFIX_MIN {
        return None;
    }
    let mut fitting = images.iter().filter(|image| id_of(image).starts_with(digits));
    fitting.next().filter(|_| fitting.next().is_none())
}

fn has_name(image: &Image, wanted: &Reference) -> bool {
    let is = |name: &String| {
        Reference::parse(name).is_ok_and(|have| match wanted.digest() {
            Some(digest) => have.digest() == Some(digest) && have.name() == wanted.name(),
            None => have.tagged() == wanted.tagged(),
        })
    };
    match wanted.digest() {
        Some(_) => image.repo_digests.iter().any(is),
        None => image.repo_tags.iter().any(is),
    }
}

#[cfg(test)]
mod tests;
