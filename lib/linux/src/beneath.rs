//! Reading below a folder whose contents somebody else chose: nothing leads out of it, nothing blocks, nothing is larger
//! than the caller can bear. It decides nothing.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

/// What a path below a folder leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A device, socket or pipe; overlayfs marks a deleted file with the character device 0:0.
    Special {
        /// It is that mark.
        whiteout: bool,
    },
}

/// Opens a folder, to resolve paths below it.
///
/// # Errors
/// When it is not there, or no folder.
pub fn folder(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Resolves `path` as if `root` were `/`: links, `..` and magic links cannot lead out.
///
/// # Errors
/// When it does not lead anywhere.
pub fn resolve(root: impl AsFd, path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// What a descriptor from [`resolve`] is of.
///
/// # Errors
/// When the kernel does not say.
pub fn kind(of: impl AsFd) -> std::io::Result<Kind> {
    let stat = rustix::fs::fstat(of)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::CharacterDevice => Kind::Special { whiteout: stat.st_rdev == 0 },
        _ => Kind::Special { whiteout: false },
    })
}

/// The bytes of a file below `root`.
///
/// # Errors
/// When it is not there, no regular file, or longer than `length_max`.
pub fn read(root: impl AsFd, path: &Path, length_max: usize) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, ErrorKind};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?;
    if kind(&file)? != Kind::File {
        return Err(Error::new(ErrorKind::InvalidData, "not a regular file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(length_max).unwrap_or(u64::MAX).saturating_add(1);
    File::from(file).take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > length_max {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("longer than {length_max} bytes")));
    }
    Ok(bytes)
}

/// An extended attribute of a descriptor from [`resolve`]; empty when it has none of that name.
#[must_use]
pub fn attribute(of: impl AsFd, name: &str) -> Vec<u8> {
    use std::os::fd::AsRawFd as _;
    let mut value = [0; 64];
    // A descriptor opened for its path only has no attributes; its path in /proc has those of what it is of.
    let path = format!("/proc/self/fd/{}", of.as_fd().as_raw_fd());
    let length = rustix::fs::getxattr(path, name, &mut value).unwrap_or(0);
    value.get(..length).unwrap_or_default().to_vec()
}

/// Whether there is something, without following a link at the end.
#[must_use]
pub fn exists(root: impl AsFd, name: &str) -> bool {
    rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let outside = tempfile::tempdir().expect("folder");
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("etc")).expect("folders");
        std::fs::write(outside.path().join("secret"), "secret").expect("file");
        std::fs::write(root.join("etc/passwd"), "root:x:0:0").expect("file");
        let root = folder(&root).expect("open");
        (outside, root)
    }

    #[test]
    fn links_stay_inside() {
        let (outside, root) = tree();
        let link = |to: &str, at: &str| {
            std::os::unix::fs::symlink(to, outside.path().join("root").join(at)).expect("link");
        };
        link("../../../secret", "up");
        link("/etc/passwd", "absolute");
        link("/proc/self/root/etc/passwd", "magic");
        assert!(read(&root, Path::new("up"), 100).is_err());
        assert!(read(&root, Path::new("../secret"), 100).is_err());
        assert!(read(&root, Path::new("magic"), 100).is_err());
        assert_eq!(read(&root, Path::new("absolute"), 100).expect("inside"), b"root:x:0:0");
    }

    #[test]
    fn what_is_too_long_or_no_file_is_refused_without_waiting() {
        let (outside, root) = tree();
        assert!(read(&root, Path::new("etc/passwd"), 9).is_err());
        assert!(read(&root, Path::new("etc"), 9).is_err());
        let pipe = outside.path().join("root/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).expect("pipe");
        assert!(read(&root, Path::new("pipe"), 9).is_err());
    }
}
