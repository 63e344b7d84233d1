//! The store: one snapshot of all images that reads never wait for, and the operations that change it.
//!
//! A snapshot is replaced as a whole; whoever has one keeps it. Layers of an image somebody holds are never deleted.

mod damage;
mod disk;
mod export;
mod fetch;
mod find;
mod import;
mod pull;
mod state;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use self::state::Inner;
use crate::auth::Auth;
use crate::config::{Sources, StoreConfig};
use crate::error::Error;
use crate::image::Image;
use crate::notice::Notices;

/// Handle on the store; clones are the same store.
#[derive(Clone, Debug)]
pub struct ImageStore {
    inner: Arc<Inner>,
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
    /// Bytes of all layers.
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
        self.inner.release(&self.image.id);
    }
}

impl ImageStore {
    /// Opens the store and removes what an interrupted pull left. Images that were removed while somebody held them
    /// stay until [`Self::gc`] is called: whoever has running containers takes its [`Self::hold`]s first.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub async fn open(config: StoreConfig) -> Result<Self, Error> {
        let inner = blocking(move || Inner::open(config)).await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// All images at this moment, the bundled ones first. Costs the same however many there are.
    #[must_use]
    pub fn list(&self) -> Arc<Vec<Arc<Image>>> {
        self.inner.snapshot.borrow().clone()
    }

    /// Finds an image by tag, digest, id, or the beginning of an id that only one image has.
    #[must_use]
    pub fn find(&self, reference_or_id: &str) -> Option<Arc<Image>> {
        find::find(&self.list(), reference_or_id).cloned()
    }

    /// Fetches an image, unless it is bundled. Two calls for the same join; a call that is dropped does not stop the
    /// work, which ends by itself within `timeouts.pull`.
    ///
    /// # Errors
    /// When the registry does not give the image, or the image is not acceptable, or the disk is full.
    pub async fn pull(
        &self,
        reference: &str,
        auth: &Auth,
        progress: Option<watch::Sender<Progress>>,
    ) -> Result<Arc<Image>, Error> {
        pull::pull(&self.inner, reference, auth, progress).await
    }

    /// Takes all images from an archive: an OCI layout as a tar, or what `docker save` writes. Whatever reads it may
    /// block.
    ///
    /// # Errors
    /// When the archive or an image in it is not acceptable, or the disk is full. Images before that one stay.
    pub async fn import(
        &self,
        archive: impl std::io::Read + Send + 'static,
    ) -> Result<Vec<Arc<Image>>, Error> {
        import::import(&self.inner, archive).await
    }

    /// Writes an image as an OCI layout in a tar. It has the same files and names, uncompressed layers, and another id.
    /// Whatever takes it may block; one image is written at a time, others wait.
    ///
    /// # Errors
    /// When there is no such image, or it is bundled, or the disk has no room for its layers a second time.
    pub async fn export(
        &self,
        reference_or_id: &str,
        out: impl std::io::Write + Send + 'static,
    ) -> Result<(), Error> {
        let image = self.find(reference_or_id);
        let image =
            image.ok_or_else(|| Error::NotHere { reference: reference_or_id.to_owned() })?;
        if image.pinned {
            return Err(Error::Bundled { reference: reference_or_id.to_owned() });
        }
        let Some(hold) = self.hold(&image.id) else {
            return Err(Error::NotHere { reference: reference_or_id.to_owned() });
        };
        let inner = self.inner.clone();
        let _permit = inner.exports.acquire().await.map_err(|_| Error::Abandoned)?;
        blocking(move || {
            let record = hold.inner.record(&hold.image.id);
            let gone = || Error::NotHere { reference: hold.image.id.clone() };
            export::export(&hold.inner, &record.ok_or_else(gone)?, out)
        })
        .await
    }

    /// Where images come from, for pulls that begin from now on.
    pub fn set_sources(&self, sources: Sources) {
        self.inner.set_sources(sources);
    }

    /// Removes an image with all its names. An image that is not there is removed already; the layers of one that
    /// somebody holds go when nobody does and [`Self::gc`] is called.
    ///
    /// # Errors
    /// For bundled images, and when the disk refuses.
    pub async fn remove(&self, reference_or_id: &str) -> Result<(), Error> {
        let Some(image) = self.find(reference_or_id) else { return Ok(()) };
        if image.pinned {
            return Err(Error::Bundled { reference: reference_or_id.to_owned() });
        }
        let inner = self.inner.clone();
        blocking(move || {
            inner.remove(&image.id)?;
            inner.collect().map(drop)
        })
        .await
    }

    /// What the store takes on its file system. Counted when images come and go, not when asked.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.inner.usage()
    }

    /// Deletes what no image has and nobody holds. Returns the bytes freed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn gc(&self) -> Result<u64, Error> {
        let inner = self.inner.clone();
        blocking(move || inner.collect()).await
    }

    /// Deletes what was set aside because it was damaged, when it is from before this start of the machine.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn forget_damaged(&self) -> Result<(), Error> {
        let inner = self.inner.clone();
        blocking(move || inner.forget_damaged()).await
    }

    /// Where the store tells what the operator should know; the first who asks gets it.
    #[must_use]
    pub fn notices(&self) -> Option<Notices> {
        self.inner.notices.reader()
    }

    /// Keeps the image with this id (as [`Image::id`]) until the result is dropped, even when it is removed. Finds
    /// images that were removed before, too, as long as their layers are there.
    #[must_use]
    pub fn hold(&self, id: &str) -> Option<Hold> {
        let image = self.inner.hold(id)?;
        Some(Hold { image, inner: self.inner.clone() })
    }
}

/// Work on the disk, off the threads that must not wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Abandoned)?
}

#[cfg(test)]
mod tests;
