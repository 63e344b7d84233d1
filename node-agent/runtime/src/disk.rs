//! How much disk a folder takes, counted as du(1) counts it. Its contents belong to a container that may change them
//! meanwhile: the count follows no link, leaves the folder never, and gives up on folders without end.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

/// Most entries that are looked at. A folder with more is not counted to its end: what was counted is the answer.
const ENTRIES_MAX: u64 = 1_000_000;

/// Deepest folder that is looked at.
const DEPTH_MAX: usize = 256;

/// Files with several names that are remembered; the names of more count as files of their own.
const LINKED_MAX: usize = 50_000;

/// What a folder takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes on the disk.
    pub(crate) bytes: u64,
    /// Files, folders and links.
    pub(crate) inodes: u64,
}

#[derive(Default)]
struct Count {
    taken: Taken,
    entries: u64,
    /// Files seen under another name.
    linked: HashSet<(u64, u64)>,
}

impl Count {
    fn add(&mut self, stat: &Stat, is_folder: bool) {
        self.entries += 1;
        if stat.st_nlink > 1 && !is_folder {
            let file = (stat.st_dev, stat.st_ino);
            if self.linked.contains(&file) {
                return;
            }
            if self.linked.len() < LINKED_MAX {
                self.linked.insert(file);
            }
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.taken.inodes += 1;
        self.taken.bytes = self.taken.bytes.saturating_add(blocks.saturating_mul(512));
    }
}

/// Counts a folder, itself included; `None` when there is none. Blocks.
pub(crate) fn count(folder: &Path) -> Option<Taken> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, flags, Mode::empty()).ok()?;
    let mut count = Count::default();
    count.add(&rustix::fs::fstat(&root).ok()?, true);
    let mut open: Vec<(OwnedFd, Dir)> = Vec::new();
    push(&mut open, root);
    while let Some((fd, dir)) = open.last_mut() {
        let Some(Ok(entry)) = dir.next() else {
            open.pop();
            continue;
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if count.entries > ENTRIES_MAX {
            break;
        }
        // What goes away while it is counted is not counted.
        let Ok(stat) = rustix::fs::statat(fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        count.add(&stat, is_folder);
        if is_folder
            && let Ok(inner) = rustix::fs::openat(fd.as_fd(), name, flags, Mode::empty())
            && open.len() < DEPTH_MAX
        {
            push(&mut open, inner);
        }
    }
    Some(count.taken)
}

fn push(open: &mut Vec<(OwnedFd, Dir)>, folder: OwnedFd) {
    if let Ok(dir) = Dir::read_from(&folder) {
        open.push((folder, dir));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let big = tempfile::tempdir().unwrap();
        std::fs::write(big.path().join("big"), vec![1; 1 << 20]).unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink(big.path(), folder.path().join("out")).unwrap();
        let taken = count(folder.path()).unwrap();
        assert!((100_000..500_000).contains(&taken.bytes), "{taken:?}");
        assert_eq!(taken.inodes, 5);
        assert_eq!(count(&folder.path().join("out")), None);
        assert_eq!(count(&folder.path().join("none")), None);
    }

    #[test]
    fn a_file_with_many_names_takes_its_room_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("0");
        std::fs::write(&file, vec![1; 100_000]).unwrap();
        let once = count(folder.path()).unwrap();
        for number in 1..20 {
            std::fs::hard_link(&file, folder.path().join(number.to_string())).unwrap();
        }
        assert_eq!(count(folder.path()).unwrap(), once);
    }
}
