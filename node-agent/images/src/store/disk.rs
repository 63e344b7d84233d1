//! The store's folder: what is where, and what is true after a loss of power.
//!
//! A layer is unpacked below `ingest/` and renamed to `layers/<digest of its archive>/` when all its digests are right.
//! The whole file system is synchronised once for an image, and only then `index.json` names it. So a layer that the
//! index does not name may be incomplete after a loss of power: it is removed when the store is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;
use crate::unpack::{FILES, Stats};

/// What a layer took, beside its files.
pub(super) const LAYER: &str = "layer.json";
/// The index.
const INDEX: &str = "index.json";
/// The same once more, for when the first cannot be read. Written second and not synchronised: in doubt it is older.
const COPY: &str = "index.copy.json";
/// Version of the index; another one is not read.
const VERSION: u32 = 1;

/// An image in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Digest of the configuration.
    pub(super) id: Digest,
    /// Digest of the manifest.
    pub(super) manifest: Digest,
    pub(super) repo_tags: BTreeSet<String>,
    pub(super) repo_digests: BTreeSet<String>,
    /// Digests of the archives in its layers, from the bottom up.
    pub(super) layers: Vec<Digest>,
    /// Nobody may find it any more, but somebody holds its layers.
    pub(super) removed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    version: u32,
    images: Vec<Record>,
}

/// The store's folder.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) root: PathBuf,
    next: AtomicU64,
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Read { path: path.to_owned(), source }
}

pub(super) fn write_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Write { path: path.to_owned(), source }
}

impl Disk {
    /// Makes the folder, and removes what an interrupted pull left.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let disk = Self { root: root.to_owned(), next: AtomicU64::new(0) };
        for folder in [root, &disk.layers(), &disk.documents(), &disk.ingest()] {
            // Files of images have any owner and set-id bits: nobody but us may walk here (CVE-2021-41103).
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(write_error(folder))?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
                .map_err(write_error(folder))?;
        }
        for entry in list(&disk.ingest())? {
            remove(&entry).map_err(write_error(&entry))?;
        }
        Ok(disk)
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn documents(&self) -> PathBuf {
        self.root.join("documents")
    }

    fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// A name below `ingest/` that nobody else has.
    fn fresh(&self) -> PathBuf {
        self.ingest().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Files of a layer.
    pub(super) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex()).join(FILES)
    }

    /// The index, and what was wrong with it: then it may lack the newest images, or all. One that cannot be read is set
    /// aside: an image is fetched again sooner than an agent without images is repaired.
    pub(super) fn records(&self) -> Result<(Vec<Record>, Option<String>), Error> {
        let (index, copy) = (self.root.join(INDEX), self.root.join(COPY));
        let first = match read_index(&index) {
            Ok(Some(images)) => return Ok((images, None)),
            Ok(None) if !copy.exists() => return Ok((Vec::new(), None)),
            Ok(None) => "it is missing".to_owned(),
            Err(error) => error,
        };
        self.set_index_aside(&index)?;
        match read_index(&copy) {
            Ok(Some(images)) => Ok((
                images,
                Some(format!("the list of images was damaged ({first}); its copy is used")),
            )),
            second => {
                let second = second.err().unwrap_or_else(|| "it is missing".to_owned());
                self.set_index_aside(&copy)?;
                let lost =
                    format!("the list of images is lost ({first}), and so is its copy ({second})");
                Ok((Vec::new(), Some(lost)))
            }
        }
    }

    /// Replaces the index; it lasts when this returns.
    pub(super) fn write_records(&self, images: Vec<Record>) -> Result<(), Error> {
        let path = self.root.join(INDEX);
        let index = Index { version: VERSION, images };
        let bytes =
            serde_json::to_vec(&index).map_err(|e| write_error(&path)(io::Error::other(e)))?;
        self.replace(&path, &bytes, true)
            .and_then(|()| File::open(&self.root)?.sync_all())
            .map_err(write_error(&path))?;
        if let Err(error) = self.replace(&self.root.join(COPY), &bytes, false) {
            // The images are safe; the copy is for another day.
            tracing::warn!(%error, "the list of images has no copy for now");
        }
        Ok(())
    }

    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        let new = self.fresh();
        let written = write(&new, bytes, durable).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// Layers that are there and belong to these images; all others are removed.
    pub(super) fn load_layers(
        &self,
        wanted: &BTreeSet<Digest>,
    ) -> Result<BTreeMap<Digest, Stats>, Error> {
        let mut found = BTreeMap::new();
        for path in list(&self.layers())? {
            let digest = digest_of(&path).filter(|digest| wanted.contains(digest));
            let stats = digest.and_then(|_| {
                let bytes = fs::read(path.join(LAYER)).ok()?;
                serde_json::from_slice(&bytes).ok()
            });
            match (digest, stats) {
                (Some(digest), Some(stats)) => {
                    found.insert(digest, stats);
                }
                _ => self.discard(&path)?,
            }
        }
        Ok(found)
    }

    /// A place for a new layer.
    pub(super) fn begin_layer(&self) -> Result<PathBuf, Error> {
        let place = self.fresh();
        let folder = place.join(FILES);
        let made = fs::create_dir(&place).and_then(|()| fs::create_dir(&folder));
        // The mode of an image's "/", unless a layer says otherwise.
        made.and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)))
            .map_err(write_error(&folder))?;
        Ok(place)
    }

    /// Gives a complete layer its name. Nothing is synchronised yet.
    pub(super) fn finish_layer(
        &self,
        place: &Path,
        diff_id: &Digest,
        stats: &Stats,
    ) -> Result<(), Error> {
        let path = self.layers().join(diff_id.hex());
        let bytes = serde_json::to_vec(stats).map_err(io::Error::other);
        let named = bytes
            .and_then(|bytes| write(&place.join(LAYER), &bytes, false))
            .and_then(|()| fs::rename(place, &path));
        if named.is_err() {
            let _ = remove(place);
        }
        named.map_err(write_error(&path))
    }

    /// Removes a layer: at once for everybody, from the disk before this returns.
    pub(super) fn remove_layer(&self, diff_id: &Digest) -> Result<(), Error> {
        self.discard(&self.layers().join(diff_id.hex()))
    }

    /// Moves away first, so that a half-removed layer is never taken for one.
    pub(super) fn discard(&self, path: &Path) -> Result<(), Error> {
        let trash = self.fresh();
        match fs::rename(path, &trash) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            moved => moved.map_err(write_error(path))?,
        }
        remove(&trash).map_err(write_error(&trash))
    }

    pub(super) fn document(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.documents().join(digest.hex());
        let bytes = fs::read(&path).map_err(read_error(&path))?;
        if Digest::of(&bytes) == *digest {
            return Ok(bytes);
        }
        Err(read_error(&path)(io::Error::new(io::ErrorKind::InvalidData, "its digest is wrong")))
    }

    /// Keeps a document. Nothing is synchronised yet.
    pub(super) fn write_document(&self, bytes: &[u8]) -> Result<(), Error> {
        let path = self.documents().join(Digest::of(bytes).hex());
        self.replace(&path, bytes, false).map_err(write_error(&path))
    }

    /// Removes documents that are not among these.
    pub(super) fn keep_documents(&self, wanted: &BTreeSet<Digest>) -> Result<(), Error> {
        for path in list(&self.documents())? {
            if !digest_of(&path).is_some_and(|digest| wanted.contains(&digest)) {
                remove(&path).map_err(write_error(&path))?;
            }
        }
        Ok(())
    }

    /// Everything that was written is on the disk when this returns. `since` was opened before the first write: the
    /// kernel then also tells about an earlier write that failed.
    pub(super) fn sync(&self, since: &File) -> Result<(), Error> {
        rustix::fs::syncfs(since).map_err(|e| write_error(&self.root)(e.into()))
    }

    /// A new file that goes when it is closed.
    pub(super) fn scratch(&self) -> Result<File, Error> {
        let path = self.fresh();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(write_error(&path))?;
        fs::remove_file(&path).map_err(write_error(&path))?;
        Ok(file)
    }

    /// Bytes that are free on the file system.
    pub(super) fn free(&self) -> Result<u64, Error> {
        let found =
            rustix::fs::statvfs(&self.root).map_err(|e| read_error(&self.root)(e.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// The store's folder, open.
    pub(super) fn handle(&self) -> Result<File, Error> {
        File::open(&self.root).map_err(read_error(&self.root))
    }
}

/// `None` when there is none.
fn read_index(path: &Path) -> Result<Option<Vec<Record>>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    match serde_json::from_slice::<Index>(&bytes) {
        Ok(index) if index.version == VERSION => Ok(Some(index.images)),
        Ok(index) => Err(format!("it has version {}", index.version)),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(read_error(folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().map_err(read_error(folder))
}

pub(super) fn digest_of(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?).parse().ok()
}

/// Removes a file or folder. Links are not followed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

fn write(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    if durable { file.sync_all() } else { Ok(()) }
}
