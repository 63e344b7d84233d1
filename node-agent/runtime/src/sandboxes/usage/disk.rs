//! How much the writable layer of a container takes.

use std::path::Path;

use jiff::Timestamp;

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
    let taken = crate::disk::count(folder)?;
    Some(DiskUsage { at: Timestamp::now(), bytes: taken.bytes, inodes: taken.inodes })
}
