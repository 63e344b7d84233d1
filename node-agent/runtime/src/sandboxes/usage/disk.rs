//! How much is in a folder. Never follows a link, and gives up on folders without end.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Entries that are counted at most; a container that has more is told to have these.
const ENTRIES_MAX: u64 = 200_000;

/// Folders inside each other that are entered.
const DEPTH_MAX: usize = 128;

/// What a folder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// When it was counted.
    pub at: Timestamp,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files, folders and links.
    pub inodes: u64,
}

/// Counts; `None` when there is no such folder. Blocks.
pub(super) fn count(folder: &Path) -> Option<DiskUsage> {
    let own = std::fs::symlink_metadata(folder).ok()?;
    let mut usage = DiskUsage { at: Timestamp::now(), bytes: own.blocks() * 512, inodes: 1 };
    let mut rest: Vec<(PathBuf, usize)> = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = rest.pop() {
        // What goes away while it is counted is not counted.
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            usage.inodes += 1;
            usage.bytes += metadata.blocks() * 512;
            if usage.inodes >= ENTRIES_MAX {
                return Some(usage);
            }
            if metadata.is_dir() && depth < DEPTH_MAX {
                rest.push((entry.path(), depth + 1));
            }
        }
    }
    Some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_elsewhere_is_counted_but_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b"), [1; 5000]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("root")).unwrap();
        let usage = count(folder.path()).unwrap();
        assert_eq!(usage.inodes, 4);
        assert!(usage.bytes >= 5000);
        assert_eq!(count(&folder.path().join("gone")), None);
    }
}
