//! Opening paths that somebody else named, for looking only: no magic links, no devices, no blocking, and the path that
//! was really opened, so that a caller can decide on it. It decides nothing itself.

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The path is not absolute.
    #[error("{path} is not an absolute path")]
    NotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// It could not be opened.
    #[error("open {path}")]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It could not be examined.
    #[error("examine {path}")]
    Examine {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what was asked for.
    #[error("{path} is not a {wanted}")]
    WrongType {
        /// The path.
        path: PathBuf,
        /// "regular file" or "directory".
        wanted: &'static str,
    },
}

/// A path that was resolved but not opened for reading yet.
#[derive(Debug)]
pub struct Found {
    fd: OwnedFd,
    path: PathBuf,
}

impl Found {
    /// Resolves an absolute path. Symbolic links are followed, magic links (`/proc/*/root`, `/proc/*/fd/*`) are not.
    ///
    /// # Errors
    /// For a relative path, or one that does not lead anywhere.
    pub fn resolve(path: &Path) -> Result<Self, InspectError> {
        Self::open(path, OFlags::empty())
    }

    /// The same, but a symbolic link at the end is not followed.
    ///
    /// # Errors
    /// For a relative path, or one that does not lead anywhere.
    pub fn resolve_no_follow(path: &Path) -> Result<Self, InspectError> {
        Self::open(path, OFlags::NOFOLLOW)
    }

    fn open(path: &Path, extra: OFlags) -> Result<Self, InspectError> {
        if !path.is_absolute() {
            return Err(InspectError::NotAbsolute { path: path.into() });
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC | extra;
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve)
            .map_err(|e| InspectError::Open { path: path.into(), source: e.into() })?;
        let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .map_err(|source| InspectError::Examine { path: path.into(), source })?;
        Ok(Self { fd, path: real })
    }

    /// The path without links, as the kernel has it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn stat(&self) -> Result<rustix::fs::Stat, InspectError> {
        rustix::fs::fstat(self.fd.as_fd())
            .map_err(|e| InspectError::Examine { path: self.path.clone(), source: e.into() })
    }

    /// Opens it for reading when it is a regular file; never blocks on opening.
    ///
    /// # Errors
    /// When it is something else or may not be read.
    pub fn read(&self) -> Result<File, InspectError> {
        self.reopen(FileType::RegularFile, "regular file", OFlags::NONBLOCK)
    }

    /// Opens it for listing when it is a directory.
    ///
    /// # Errors
    /// When it is something else or may not be read.
    pub fn list(&self) -> Result<File, InspectError> {
        self.reopen(FileType::Directory, "directory", OFlags::DIRECTORY)
    }

    fn reopen(
        &self,
        wanted: FileType,
        name: &'static str,
        flags: OFlags,
    ) -> Result<File, InspectError> {
        if FileType::from_raw_mode(self.stat()?.st_mode) != wanted {
            return Err(InspectError::WrongType { path: self.path.clone(), wanted: name });
        }
        // Through our own descriptor: what is opened is what was examined, whatever happened to the path since.
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | flags;
        rustix::fs::open(path, flags, Mode::empty())
            .map(File::from)
            .map_err(|e| InspectError::Open { path: self.path.clone(), source: e.into() })
    }
}
