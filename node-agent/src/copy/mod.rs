//! Files into and out of containers, as tar archives that pass through. Nothing in a container takes part in it, and nothing that a container
//! put into its file system leads out of it: every path is resolved with the container's root as `/`, and every object is
//! opened for its path before anything is asked of it.
//!
//! Both directions block, so they run on threads of their own; the other end of the archive is a bounded channel.

mod pack;
mod pipe;
mod unpack;

pub(crate) use pack::pack;
pub(crate) use pipe::{Reader, Writer};
pub(crate) use unpack::unpack;

use std::path::PathBuf;

/// Longest chain of folders that is followed into.
const DEPTH_MAX: usize = 128;

/// Most names in one folder.
const NAMES_MAX: usize = 1_000_000;

/// Why something was not copied. Paths are those in the container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The container's root cannot be opened: it has ended.
    #[error("open the container's file system")]
    Root(#[source] std::io::Error),
    /// Not a path to begin at.
    #[error("{path} does not name a file or folder")]
    Path {
        /// As it was written.
        path: PathBuf,
    },
    /// One of the kernel's own file systems.
    #[error("{path} belongs to the kernel, not to the container")]
    Kernel {
        /// Which.
        path: PathBuf,
    },
    /// Something in the container.
    #[error("{what} {path}")]
    Inside {
        /// Verb.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The archive makes no sense, or the caller has gone.
    #[error("read the archive")]
    Archive(#[source] std::io::Error),
    /// The caller has gone.
    #[error("write the archive")]
    Write(#[source] std::io::Error),
    /// An entry that is not taken.
    #[error("the archive has {path}, {why}")]
    Entry {
        /// As the archive names it.
        path: PathBuf,
        /// Why it is not taken.
        why: &'static str,
    },
    /// Folders in folders without an end.
    #[error("{path} is too deep")]
    Deep {
        /// Which.
        path: PathBuf,
    },
}

impl CopyError {
    fn inside(what: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Inside { what, path: path.into(), source }
    }
}

#[cfg(test)]
use unpack::Unpacked;

#[cfg(test)]
mod tests;
