//! How much disk a folder takes. Its contents belong to strangers: the walk follows no link, leaves the file system as little
//! as the folder, and is bounded in files and depth.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

/// Most files that are counted; a folder with more is at its bound, whatever that is.
const FILES_MAX: u64 = 1_000_000;

/// How deep folders are entered; each level holds a descriptor.
const DEPTH_MAX: usize = 256;

/// What a folder takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Space on the disk in bytes.
    pub(crate) bytes: u64,
    /// Files and folders, itself included.
    pub(crate) inodes: u64,
    /// There is more than was counted.
    pub(crate) incomplete: bool,
}

/// Counts a folder with all that is in it, on a thread that may block. One that is not there takes nothing.
///
/// # Errors
/// When the folder cannot be read; what goes away meanwhile, or cannot be read inside, is left out.
pub(crate) async fn usage(path: PathBuf) -> io::Result<Usage> {
    tokio::task::spawn_blocking(move || count(&path)).await.map_err(io::Error::other)?
}

/// A folder on the way.
struct Level {
    folder: OwnedFd,
    entries: Dir,
}

fn count(path: &Path) -> io::Result<Usage> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(Usage::default()),
        opened => opened?,
    };
    let device = rustix::fs::fstat(&top)?.st_dev;
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    add(&mut usage, &rustix::fs::fstat(&top)?);
    let mut levels = vec![level(top)?];
    while let Some(current) = levels.last_mut() {
        let Some(Ok(entry)) = current.entries.next() else {
            levels.pop();
            continue;
        };
        let name: CString = entry.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        if usage.inodes >= FILES_MAX {
            usage.incomplete = true;
            break;
        }
        let stat = rustix::fs::statat(&current.folder, &name, AtFlags::SYMLINK_NOFOLLOW);
        let Ok(stat) = stat else { continue };
        // A file with several names is counted once.
        if stat.st_dev != device
            || (stat.st_nlink > 1 && is_file(&stat) && !linked.insert(stat.st_ino))
        {
            continue;
        }
        add(&mut usage, &stat);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        let below = rustix::fs::openat(&current.folder, &name, flags, Mode::empty());
        match below.map_err(io::Error::from).and_then(level) {
            Ok(below) if levels.len() < DEPTH_MAX => levels.push(below),
            Ok(_) => usage.incomplete = true,
            Err(_) => {}
        }
    }
    Ok(usage)
}

fn is_file(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn add(usage: &mut Usage, stat: &rustix::fs::Stat) {
    // Blocks of 512 bytes, whatever the file system's own are: stat(2).
    usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    usage.inodes += 1;
}

fn level(folder: OwnedFd) -> io::Result<Level> {
    let entries = Dir::read_from(&folder)?;
    Ok(Level { folder, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("a/b")).unwrap();
        std::fs::write(path("a/b/file"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(path("a/b/file"), path("again")).unwrap();
        std::os::unix::fs::symlink("/", path("everything")).unwrap();
        let usage = count(folder.path()).unwrap();
        assert_eq!((usage.inodes, usage.incomplete), (5, false));
        assert!((100_000..200_000).contains(&usage.bytes), "{}", usage.bytes);
    }

    #[test]
    fn holes_take_nothing_and_what_is_absent_neither() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("hole")).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(count(folder.path()).unwrap().bytes < 1 << 20);
        assert_eq!(count(&folder.path().join("absent")).unwrap(), Usage::default());
    }

    #[test]
    fn a_tree_deeper_than_the_bound_is_counted_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let deep: PathBuf = std::iter::repeat_n("d", DEPTH_MAX + 10).collect();
        std::fs::create_dir_all(folder.path().join(deep)).unwrap();
        let usage = count(folder.path()).unwrap();
        assert!(usage.incomplete);
        assert_eq!(usage.inodes, u64::try_from(DEPTH_MAX).unwrap() + 1);
    }
}
