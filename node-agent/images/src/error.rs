//! Why an operation on images failed, as one enum; and the few kinds a caller has to tell apart.

use std::io;
use std::path::PathBuf;

use crate::reference::ReferenceError;

/// Any failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's name for an image is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// There is no such image here.
    #[error("image {reference:?} is not on this node")]
    NotHere {
        /// As the caller wrote it.
        reference: String,
    },
    /// A part of the system cannot be removed.
    #[error("image {reference:?} is bundled in the system and cannot be removed")]
    Bundled {
        /// As the caller wrote it.
        reference: String,
    },
    /// A file of the store cannot be read.
    #[error("read {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A document of an image is not what it should be.
    #[error("understand {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Something of the store cannot be written.
    #[error("write {path}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread of the store ended without an answer.
    #[error("the work on the disk was abandoned")]
    Abandoned,
}

/// What a caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request makes no sense.
    Invalid,
    /// There is no such image.
    NotFound,
    /// The registry wants other credentials.
    Unauthorized,
    /// The registry cannot be reached or does not answer as it should; later it may.
    Unavailable,
    /// The image breaks a rule or is damaged.
    BadImage,
    /// The disk is full or a bound is reached.
    Exhausted,
    /// It took too long.
    Deadline,
    /// Not allowed for this image.
    Refused,
    /// A fault of the node.
    Internal,
}

impl Error {
    /// What a caller may do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference(_) => ErrorKind::Invalid,
            Self::NotHere { .. } => ErrorKind::NotFound,
            Self::Bundled { .. } => ErrorKind::Refused,
            Self::Read { .. } | Self::Parse { .. } | Self::Write { .. } | Self::Abandoned => {
                ErrorKind::Internal
            }
        }
    }

    /// Reason in the status of a container, as `kubectl describe` shows it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.kind() {
            ErrorKind::Invalid => "InvalidImageName",
            ErrorKind::Unavailable => "RegistryUnavailable",
            _ => match self {
                Self::NotHere { .. } => "ErrImageNeverPull",
                Self::Read { .. } | Self::Parse { .. } => "ImageInspectError",
                _ => "ErrImagePull",
            },
        }
    }
}
