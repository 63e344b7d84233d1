//! The config on disk: one file per generation, never overwritten, with a checksum; the newest that is whole counts.
//!
//! A write goes to a temporary file, is synced, gets its name by rename, and the folder is synced; only then are old
//! generations removed. So a power cut or a full disk leaves the old config, or the new one, but never neither.

use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Generations kept, the current one included.
const KEPT: usize = 4;
/// Largest file read; a config has at most 4 MiB.
const SIZE_MAX: u64 = 5 * 1024 * 1024;
/// First word of a file, with the version of this format.
const MAGIC: &str = "ingot-config-1";
/// Name of the file being written.
const TEMPORARY: &str = "new.tmp";

/// What could not be done with the ledger.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The folder could not be made.
    #[error("create folder {path}")]
    CreateFolder { path: PathBuf, source: io::Error },
    /// The folder could not be listed.
    #[error("list {path}")]
    List { path: PathBuf, source: io::Error },
    /// A file could not be written; the config before it still counts.
    #[error("write {path}")]
    Write { path: PathBuf, source: io::Error },
    /// The folder could not be synced.
    #[error("sync {path}")]
    Sync { path: PathBuf, source: io::Error },
}

/// A config as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its generation.
    pub(crate) generation: u64,
    /// Word for where it came from.
    pub(crate) source: String,
    /// The text.
    pub(crate) text: String,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Whole entries, newest first.
    pub(crate) entries: Vec<Entry>,
    /// Files that are not whole, with the reason.
    pub(crate) damaged: Vec<(PathBuf, String)>,
}

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    /// Uses a folder, which need not exist.
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Reads everything. A folder that does not exist is empty.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(crate) fn load(&self) -> Result<Loaded, LedgerError> {
        let mut loaded = Loaded::default();
        for (generation, path) in self.files()? {
            match read(&path) {
                Ok(entry) if entry.generation == generation => loaded.entries.push(entry),
                Ok(_) => loaded.damaged.push((path, "generation differs from its name".into())),
                Err(reason) => loaded.damaged.push((path, reason)),
            }
        }
        Ok(loaded)
    }

    /// The generation a new entry would get: above every file's, damaged ones included.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(crate) fn next_generation(&self) -> Result<u64, LedgerError> {
        Ok(self.files()?.first().map_or(1, |(newest, _)| newest + 1))
    }

    /// Makes an entry durable. When the disk is full, all but the newest two old entries are given up for it.
    ///
    /// # Errors
    /// When it could not be made durable; what was there before is still there.
    pub(crate) fn store(&self, entry: &Entry) -> Result<(), LedgerError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|source| LedgerError::CreateFolder { path: self.folder.clone(), source })?;
        let result = self.write(entry).or_else(|error| match &error {
            LedgerError::Write { source, .. } if is_full(source) => {
                self.prune(2);
                self.write(entry)
            }
            _ => Err(error),
        });
        if result.is_err() {
            // What is half written must not keep a full disk full. It does not count, so failing to remove it is no harm.
            let _ = fs::remove_file(self.folder.join(TEMPORARY));
        }
        result?;
        self.prune(KEPT);
        Ok(())
    }

    fn write(&self, entry: &Entry) -> Result<(), LedgerError> {
        let temporary = self.folder.join(TEMPORARY);
        let path = self.folder.join(format!("{:020}.config", entry.generation));
        let failed = |source| LedgerError::Write { path: path.clone(), source };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed)?;
        file.write_all(header(entry).as_bytes()).map_err(failed)?;
        file.write_all(entry.text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        drop(file);
        fs::rename(&temporary, &path).map_err(failed)?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| LedgerError::Sync { path: self.folder.clone(), source })
    }

    /// Removes all but the newest files. A file that stays is no harm.
    fn prune(&self, keep: usize) {
        let files = self.files().unwrap_or_default();
        for (_, path) in files.into_iter().skip(keep) {
            let _ = fs::remove_file(path);
        }
    }

    /// Files by generation, newest first.
    fn files(&self) -> Result<Vec<(u64, PathBuf)>, LedgerError> {
        let failed = |source| LedgerError::List { path: self.folder.clone(), source };
        let listing = match fs::read_dir(&self.folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut files = Vec::new();
        for item in listing {
            let path = item.map_err(failed)?.path();
            if let Some(generation) = generation_of(&path) {
                files.push((generation, path));
            }
        }
        files.sort_unstable_by(|a, b| b.cmp(a));
        Ok(files)
    }
}

/// The one line before the text.
fn header(entry: &Entry) -> String {
    let digest = checksum(entry.generation, &entry.source, &entry.text);
    format!("{MAGIC} {} {} {} {digest}\n", entry.generation, entry.source, entry.text.len())
}

/// SHA-256 over everything that counts, lower-case hex.
fn checksum(generation: u64, source: &str, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{generation} {source} {}\n", text.len()));
    hash.update(text);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn generation_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".config")?.parse().ok()
}

fn read(path: &Path) -> Result<Entry, String> {
    let size = fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > SIZE_MAX {
        return Err(format!("{size} bytes is too large"));
    }
    let content = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let (header, text) = content.split_once('\n').ok_or("no header line")?;
    let words: Vec<&str> = header.split(' ').collect();
    let [MAGIC, generation, source, length, digest] = words.as_slice() else {
        return Err("not a header of this format".into());
    };
    let generation = generation.parse().map_err(|_| "no generation")?;
    if length.parse() != Ok(text.len()) {
        return Err(format!("{} bytes instead of {length}", text.len()));
    }
    if checksum(generation, source, text) != *digest {
        return Err("wrong checksum".into());
    }
    Ok(Entry { generation, source: (*source).to_owned(), text: text.to_owned() })
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests;
