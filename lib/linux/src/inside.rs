//! Making and reading things in folders whose contents somebody else chose: single names in an open folder, never paths. Paths are
//! resolved by [`crate::beneath`]. It decides nothing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps};

/// `f_type` of file systems that show the kernel's state: reading or writing there is not copying. From linux/magic.h.
const KERNEL_VIEWS: &[u64] = &[
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup2
    0x27_e0eb,   // cgroup
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x6265_6570, // configfs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
];

/// What there is under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file with its length in bytes.
    File {
        /// Length in bytes.
        length: u64,
    },
    /// A folder.
    Folder,
    /// A symbolic link and where it points.
    Link {
        /// As it is written.
        target: OsString,
    },
    /// A device, socket or pipe.
    Special,
}

/// What a descriptor opened for its path is of, with permissions and time of change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub entry: Entry,
    /// Permission bits.
    pub mode: u32,
    /// Seconds since 1970; 0 for times before.
    pub modified: u64,
}

fn name_of(name: &OsStr) -> Result<&OsStr> {
    let bytes = name.as_encoded_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(Error::new(ErrorKind::InvalidInput, "not the name of a file"));
    }
    Ok(name)
}

/// Whether a folder or file belongs to a file system that shows the kernel's state.
///
/// # Errors
/// When the kernel does not say.
pub fn is_kernel_view(of: impl AsFd) -> Result<bool> {
    let kind = u64::try_from(rustix::fs::fstatfs(of)?.f_type).unwrap_or(0);
    Ok(KERNEL_VIEWS.contains(&kind))
}

/// Opens what has this name, for its path only: nothing is followed, nothing notices.
///
/// # Errors
/// When there is nothing.
pub fn at(folder: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name_of(name)?, flags, Mode::empty())?)
}

/// What a descriptor from [`at`] or [`crate::beneath::resolve`] is of.
///
/// # Errors
/// When the kernel does not say.
pub fn stat(of: impl AsFd) -> Result<Stat> {
    let found = rustix::fs::fstat(&of)?;
    let entry = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Entry::File { length: u64::try_from(found.st_size).unwrap_or(0) },
        FileType::Directory => Entry::Folder,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(of, "", Vec::new())?;
            Entry::Link { target: OsString::from_vec(target.into_bytes()) }
        }
        _ => Entry::Special,
    };
    let modified = u64::try_from(found.st_mtime).unwrap_or(0);
    Ok(Stat { entry, mode: found.st_mode & 0o7777, modified })
}

/// Opens a file for reading, given a descriptor of its path; what is no file is not opened.
///
/// # Errors
/// When it is no file, or cannot be read.
pub fn read(of: impl AsFd) -> Result<File> {
    if !matches!(stat(&of)?.entry, Entry::File { .. }) {
        return Err(Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    // The same file for sure, unlike one opened by its name.
    File::open(format!("/proc/self/fd/{}", of.as_fd().as_raw_fd()))
}

/// Names in a folder, sorted; at most `most`.
///
/// # Errors
/// When it cannot be read, or has more.
pub fn names(of: impl AsFd, most: usize) -> Result<Vec<OsString>> {
    let path = format!("/proc/self/fd/{}", of.as_fd().as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::new(rustix::fs::open(path, flags, Mode::empty())?)? {
        let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
        if name == "." || name == ".." {
            continue;
        }
        if names.len() >= most {
            return Err(Error::new(ErrorKind::FileTooLarge, "too many names in one folder"));
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

/// Makes a folder.
///
/// # Errors
/// When there is something of that name, or it cannot be made.
pub fn make_folder(folder: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    Ok(rustix::fs::mkdirat(folder, name_of(name)?, Mode::from_raw_mode(mode & 0o777))?)
}

/// Makes a file that was not there.
///
/// # Errors
/// When there is something of that name, or it cannot be made.
pub fn make_file(folder: impl AsFd, name: &OsStr) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name_of(name)?, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Makes a symbolic link.
///
/// # Errors
/// When there is something of that name, or it cannot be made.
pub fn make_link(folder: impl AsFd, name: &OsStr, target: &OsStr) -> Result<()> {
    Ok(rustix::fs::symlinkat(target, folder, name_of(name)?)?)
}

/// Gives a file one more name, from a descriptor of its path.
///
/// # Errors
/// When there is something of that name, or it cannot be made.
pub fn make_name(of: impl AsFd, folder: impl AsFd, name: &OsStr) -> Result<()> {
    Ok(rustix::fs::linkat(of, "", folder, name_of(name)?, AtFlags::EMPTY_PATH)?)
}

/// Puts one name in place of another, in one step. A folder is not replaced by anything else.
///
/// # Errors
/// When it cannot be done.
pub fn replace(folder: impl AsFd, name: &OsStr, by: &OsStr) -> Result<()> {
    Ok(rustix::fs::renameat(folder.as_fd(), name_of(by)?, folder.as_fd(), name_of(name)?)?)
}

/// Removes a name that is no folder's. One that is not there is removed already.
///
/// # Errors
/// When it cannot be done.
pub fn remove(folder: impl AsFd, name: &OsStr) -> Result<()> {
    match rustix::fs::unlinkat(folder, name_of(name)?, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives what has this name to somebody; links are not followed.
///
/// # Errors
/// When it cannot be done.
pub fn own(folder: impl AsFd, name: &OsStr, (user, group): (u32, u32)) -> Result<()> {
    use rustix::fs::{Gid, Uid};
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::chownat(folder, name_of(name)?, Some(user), Some(group), flags)?)
}

/// Sets permission bits and the time of change (seconds since 1970) of an open file.
///
/// # Errors
/// When it cannot be done.
pub fn finish(file: &File, mode: u32, modified: Option<u64>) -> Result<()> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o777))?;
    if let Some(tv_sec) = modified.and_then(|seconds| i64::try_from(seconds).ok()) {
        let time = Timespec { tv_sec, tv_nsec: 0 };
        rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use super::*;
    use crate::beneath;

    fn name(name: &str) -> &OsStr {
        OsStr::new(name)
    }

    #[test]
    fn only_single_names_are_taken() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = beneath::folder(folder.path()).expect("open");
        for wrong in ["", ".", "..", "a/b", "/etc"] {
            assert!(make_file(&folder, name(wrong)).is_err(), "{wrong:?}");
            assert!(at(&folder, name(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_link_in_place_of_a_file_is_not_followed() {
        let outside = tempfile::tempdir().expect("folder");
        let inside = tempfile::tempdir().expect("folder");
        let secret = outside.path().join("secret");
        std::fs::write(&secret, "secret").expect("write");
        std::os::unix::fs::symlink(&secret, inside.path().join("x")).expect("link");
        let folder = beneath::folder(inside.path()).expect("open");
        assert!(make_file(&folder, name("x")).is_err());
        let found = at(&folder, name("x")).expect("open");
        assert_eq!(
            stat(&found).expect("stat").entry,
            Entry::Link { target: secret.clone().into() }
        );
        assert!(read(&found).is_err());
        make_file(&folder, name("y")).expect("make").write_all(b"new").expect("write");
        replace(&folder, name("x"), name("y")).expect("replace");
        assert_eq!(std::fs::read(&secret).expect("read"), b"secret");
        assert_eq!(std::fs::read(inside.path().join("x")).expect("read"), b"new");
    }

    #[test]
    fn the_kernels_own_file_systems_are_told_apart() {
        let proc = beneath::folder(Path::new("/proc/self")).expect("open");
        assert!(is_kernel_view(proc).expect("asked"));
        let folder = tempfile::tempdir().expect("folder");
        assert!(!is_kernel_view(beneath::folder(folder.path()).expect("open")).expect("asked"));
    }
}
