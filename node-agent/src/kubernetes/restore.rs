//! Restoring etcd: a snapshot is checked while it arrives, then unpacked by etcd's own tool into a folder of its own, beside the database
//! of before, which goes only when the new one is served.

use super::components::{ETCD, etcd_data};
use super::record::Record;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// Name of the snapshot in etcd's folder.
pub(crate) const SNAPSHOT: &str = "restore.db";
/// A snapshot ends with the SHA-256 of what is before.
const HASH_LENGTH: usize = 32;

/// Why a snapshot is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// Cut, changed, or something else.
    #[error("this is no snapshot of etcd, or it was cut or changed: its hash is wrong")]
    NotWhole,
    /// The disk.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A snapshot on its way to the disk.
pub(crate) struct Incoming {
    path: PathBuf,
    file: fs::File,
    hash: Sha256,
    /// The last bytes so far, which may be the hash.
    tail: Vec<u8>,
}

impl Incoming {
    /// Begins a file beside the database.
    pub(crate) fn begin(cluster: &Path) -> Result<Self, RestoreError> {
        let path = etcd_data(cluster).join("incoming.db");
        let open = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::File::options().write(true).create_new(true).mode(0o600).open(&path)
        };
        let file = open().map_err(|source| RestoreError::Write { path: path.clone(), source })?;
        Ok(Self { path, file, hash: Sha256::new(), tail: Vec::new() })
    }

    /// Takes the next piece.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        self.tail.extend_from_slice(piece);
        let certain = self.tail.len().saturating_sub(HASH_LENGTH);
        self.hash.update(self.tail.get(..certain).unwrap_or_default());
        self.tail.drain(..certain);
        let failed = |source| RestoreError::Write { path: self.path.clone(), source };
        self.file.write_all(piece).map_err(failed)
    }

    /// Checks it, and puts it where the restore finds it.
    pub(crate) fn finish(self) -> Result<(), RestoreError> {
        if self.tail.len() < HASH_LENGTH || self.hash.finalize().as_slice() != self.tail {
            // It is of no use to anybody.
            let _ = fs::remove_file(&self.path);
            return Err(RestoreError::NotWhole);
        }
        let place = || {
            if rustix::process::geteuid().is_root() {
                fchown(&self.file, Some(ETCD.uid), Some(ETCD.uid))?;
            }
            self.file.sync_all()?;
            fs::rename(&self.path, self.path.with_file_name(SNAPSHOT))
        };
        place().map_err(|source| RestoreError::Write { path: self.path.clone(), source })
    }
}

/// The folder of the database, in etcd's folder: another one for each restore.
pub(crate) fn data_folder(record: &Record) -> String {
    format!("data-{}", record.restores)
}

/// Whether the restored database is there.
pub(crate) fn is_unpacked(cluster: &Path, record: &Record) -> bool {
    etcd_data(cluster).join(data_folder(record)).join("member").exists()
}

/// Removes what a restore left half done: nothing of it is used yet.
pub(crate) fn begin_anew(cluster: &Path, record: &Record) -> std::io::Result<()> {
    match fs::remove_dir_all(etcd_data(cluster).join(data_folder(record))) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the snapshot and the databases of before.
pub(crate) fn clean_up(cluster: &Path, record: &Record) {
    let current = data_folder(record);
    let entries = fs::read_dir(etcd_data(cluster)).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| *entry.file_name() != *current) {
        let path = entry.path();
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(%error, path = %path.display(), "a database of before is left over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_taken_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(etcd_data(folder.path())).unwrap();
        let mut snapshot = vec![7; 5000];
        snapshot.extend_from_slice(&Sha256::digest(vec![7; 5000]));
        let take = |bytes: &[u8], size: usize| {
            let mut incoming = Incoming::begin(folder.path()).unwrap();
            for piece in bytes.chunks(size) {
                incoming.take(piece).unwrap();
            }
            incoming.finish()
        };
        let there = etcd_data(folder.path()).join(SNAPSHOT);
        for wrong in [&snapshot[..5031], &snapshot[1..], b"", b"short"] {
            assert!(matches!(take(wrong, 64), Err(RestoreError::NotWhole)));
            assert!(!there.exists());
        }
        for size in [1, 31, 33, 10_000] {
            take(&snapshot, size).unwrap();
            assert_eq!(fs::read(&there).unwrap(), snapshot);
        }
    }
}
