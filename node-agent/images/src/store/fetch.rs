//! One image, from wherever it comes, into the store. Runs on a thread of its own, so it may wait for the disk.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::disk::Record;
use super::{Inner, Progress};
use crate::digest::Digest;
use crate::error::Error;
use crate::image::Image;
use crate::reference::Reference;
use crate::registry::manifest::{Config, Descriptor, Manifest, ManifestError};
use crate::source::Source;
use crate::unpack::{self, Budget, UnpackError};

/// An index may name another one; nobody needs a third.
const INDEXES_MAX: usize = 2;

/// What to call an image once it is here.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// For messages.
    pub(super) shown: String,
    pub(super) repo_tags: BTreeSet<String>,
    /// `host/repository` to which the digest is added.
    pub(super) repositories: BTreeSet<String>,
}

impl Names {
    /// A name with a digest says nothing about where its tag is now.
    pub(super) fn of(reference: &Reference) -> Self {
        let tag = reference.tagged().filter(|_| reference.digest().is_none());
        Self {
            shown: reference.to_string(),
            repo_tags: tag.into_iter().collect(),
            repositories: [reference.name()].into(),
        }
    }

    fn refuse(&self) -> impl Fn(ManifestError) -> Error {
        let reference = self.shown.clone();
        move |source| Error::Manifest { reference: reference.clone(), source: source.into() }
    }
}

/// A pull or import that is running.
pub(super) struct Fetch {
    pub(super) inner: Arc<Inner>,
    pub(super) source: Source,
    pub(super) names: Names,
    pub(super) progress: watch::Sender<Progress>,
}

impl Fetch {
    /// Fetches the image whose manifest has this tag or digest.
    pub(super) async fn run(
        self,
        name: String,
        digest: Option<Digest>,
    ) -> Result<Arc<Image>, Error> {
        let limits = &self.inner.config.limits;
        let since = self.inner.disk.handle()?;
        let mut documents = Vec::new();
        let mut document = self.source.manifest(&self.names.shown, &name, digest).await?;
        let top = document.digest;
        let mut indexes = 0;
        let (config, layers) = loop {
            let parsed = Manifest::parse(&document.bytes, &document.media_type, limits);
            match parsed.map_err(self.names.refuse())? {
                Manifest::Image { config, layers } => break (config, layers),
                Manifest::Index(chosen) => {
                    indexes += 1;
                    if indexes > INDEXES_MAX {
                        return Err(self.names.refuse()(ManifestError::nested()));
                    }
                    let digest = chosen.digest;
                    let name = digest.to_string();
                    document = self.source.manifest(&self.names.shown, &name, Some(digest)).await?;
                }
            }
        };
        let manifest = document.digest;
        documents.push(document.bytes);
        let bytes = self.source.small_blob(&self.names.shown, &config).await?;
        let parsed = Config::parse(&bytes).map_err(self.names.refuse())?;
        parsed.check_layers(layers.len()).map_err(self.names.refuse())?;
        documents.push(bytes);
        let record = Record {
            id: config.digest,
            manifest,
            repo_tags: self.names.repo_tags.clone(),
            repo_digests: self.names.repositories.iter().map(|r| format!("{r}@{top}")).collect(),
            layers: parsed.diff_ids.clone(),
            removed: false,
        };
        // From here on nobody removes these layers.
        let pins = self.inner.pin(&parsed.diff_ids);
        let inner = self.inner.clone();
        self.layers(layers.into_iter().zip(parsed.diff_ids).collect()).await?;
        let image = inner.commit(record, parsed.config, &documents, &since);
        drop(pins);
        image
    }

    /// All layers, some at a time, each once.
    async fn layers(self, layers: Vec<(Descriptor, Digest)>) -> Result<(), Error> {
        let limits = &self.inner.config.limits;
        let mut seen = HashSet::new();
        let wanted: Vec<_> =
            layers.into_iter().filter(|(_, diff_id)| seen.insert(*diff_id)).collect();
        let bytes_total = wanted.iter().map(|(layer, _)| layer.size).sum();
        let (alive, mut threads) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            alive,
            budget: Budget::new(limits),
            at_once: Semaphore::new(limits.parallel_layers.max(1)),
            bytes: AtomicU64::new(0),
            bytes_total,
            fetch: self,
        });
        shared.count(0);
        let mut tasks = JoinSet::new();
        for (layer, diff_id) in wanted {
            let shared = shared.clone();
            tasks.spawn(async move { shared.layer(&layer, diff_id).await });
        }
        let mut result = Ok(());
        while let Some(done) = tasks.join_next().await {
            result = done.map_err(|_| Error::Abandoned).and_then(|done| done);
            if result.is_err() {
                break;
            }
        }
        // The first failure ends the others. Their threads clean up; who hears of the failure finds nothing left.
        tasks.shutdown().await;
        drop(shared);
        while threads.recv().await.is_some() {}
        result
    }
}

/// What the layers of one image have in common.
struct Shared {
    /// Each thread has one of these until it ends.
    alive: mpsc::Sender<()>,
    fetch: Fetch,
    budget: Arc<Budget>,
    at_once: Semaphore,
    bytes: AtomicU64,
    bytes_total: u64,
}

impl Shared {
    fn count(&self, more: u64) {
        let bytes = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.fetch.progress.send_replace(Progress { bytes, bytes_total: self.bytes_total });
    }

    /// Makes sure that a layer is here: somebody else may have it, or be at it.
    async fn layer(&self, layer: &Descriptor, diff_id: Digest) -> Result<(), Error> {
        let inner = &self.fetch.inner;
        loop {
            let mut other = match inner.claim(diff_id) {
                Claim::Here => {
                    self.count(layer.size);
                    return Ok(());
                }
                Claim::Ours(_claim) => return self.unpack(layer, diff_id).await,
                Claim::Theirs(other) => other,
            };
            // Ends with an error when they are done, whatever came of it; then we look again.
            while other.changed().await.is_ok() {}
        }
    }

    async fn unpack(&self, layer: &Descriptor, diff_id: Digest) -> Result<(), Error> {
        let Fetch { inner, source, names, .. } = &self.fetch;
        let _mine = self.at_once.acquire().await.map_err(|_| Error::Abandoned)?;
        let _everybodys = inner.unpacks.acquire().await.map_err(|_| Error::Abandoned)?;
        let failed =
            |source| Error::Unpack { reference: names.shown.clone(), layer: layer.digest, source };
        let place = inner.disk.begin_layer()?;
        let job = unpack::Job {
            place: place.clone(),
            digest: layer.digest,
            size: layer.size,
            diff_id,
            budget: self.budget.clone(),
            limits: inner.config.limits.clone(),
            alive: self.alive.clone(),
        };
        let (pieces, result) = unpack::start(job).map_err(Error::Thread)?;
        let sent = source.blob(&names.shown, layer, &pieces, &|more| self.count(more)).await;
        drop(pieces);
        let unpacked = result.await.map_err(|_| Error::Abandoned)?;
        match (sent, unpacked) {
            (Ok(()), Ok(stats)) => inner.keep_layer(&place, diff_id, &stats),
            // Only one of the two knows more than that the other stopped.
            (Err(error), Ok(_) | Err(UnpackError::Stopped)) => Err(error),
            (_, Err(error)) => Err(failed(Box::new(error))),
        }
    }
}

/// Whose a layer is.
pub(super) enum Claim {
    /// It is here.
    Here,
    /// We fetch it; others wait until this is dropped.
    Ours(Claimed),
    /// Somebody else is at it.
    Theirs(watch::Receiver<()>),
}

/// A layer that we fetch.
pub(super) struct Claimed {
    pub(super) inner: Arc<Inner>,
    pub(super) diff_id: Digest,
    /// Those who wait see it go.
    pub(super) _done: watch::Sender<()>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.inner.state().claims.remove(&self.diff_id);
    }
}
