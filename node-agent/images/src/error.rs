//! Why an operation on images failed, as one enum; and the few kinds a caller has to tell apart.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::Digest;
use crate::http::HttpError;
use crate::reference::ReferenceError;
use crate::registry::RegistryError;
use crate::registry::manifest::ManifestError;
use crate::unpack::UnpackError;

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
    #[error("image {reference:?} is bundled in the system: it can be neither removed nor exported")]
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
    /// No registry gave the image.
    #[error("fetch {reference}")]
    Registry {
        /// Image, normalised.
        reference: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// A document of the image is not acceptable.
    #[error("take {reference}")]
    Manifest {
        /// Image, normalised.
        reference: String,
        /// Why.
        #[source]
        source: Box<ManifestError>,
    },
    /// A layer of the image is not acceptable, or there is no room for it.
    #[error("unpack layer {layer} of {reference}")]
    Unpack {
        /// Image, normalised.
        reference: String,
        /// Digest of the layer as it travels.
        layer: Digest,
        /// Why.
        #[source]
        source: Box<UnpackError>,
    },
    /// It took too long altogether.
    #[error("{reference} was not complete after {seconds} s")]
    Deadline {
        /// Image, normalised.
        reference: String,
        /// How long.
        seconds: u64,
    },
    /// An archive of images cannot be used.
    #[error("the archive {problem}")]
    Archive {
        /// What is wrong with it.
        problem: String,
    },
    /// Whoever takes an archive takes no more of it.
    #[error("write the archive")]
    Export {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else asked for the same before, and this is what it came to.
    #[error(transparent)]
    Joined(#[from] Arc<Error>),
    /// A thread of the store did not start.
    #[error("start a thread")]
    Thread(#[source] io::Error),
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
            Self::Reference(_) | Self::Archive { .. } => ErrorKind::Invalid,
            Self::NotHere { .. } => ErrorKind::NotFound,
            Self::Bundled { .. } => ErrorKind::Refused,
            Self::Registry { source, .. } => registry_kind(source),
            Self::Manifest { .. } => ErrorKind::BadImage,
            Self::Unpack { source, .. } => match **source {
                UnpackError::Full { .. } | UnpackError::TooMuch(_) => ErrorKind::Exhausted,
                UnpackError::Make { .. } | UnpackError::Unfenced { .. } | UnpackError::Stopped => {
                    ErrorKind::Internal
                }
                _ => ErrorKind::BadImage,
            },
            Self::Deadline { .. } => ErrorKind::Deadline,
            Self::Joined(error) => error.kind(),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Exhausted
            }
            Self::Read { .. }
            | Self::Parse { .. }
            | Self::Write { .. }
            | Self::Thread(_)
            | Self::Export { .. }
            | Self::Abandoned => ErrorKind::Internal,
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

fn registry_kind(error: &RegistryError) -> ErrorKind {
    match error {
        RegistryError::Http(HttpError::Timeout { .. }) => ErrorKind::Deadline,
        RegistryError::Http(HttpError::Url { .. }) => ErrorKind::Invalid,
        RegistryError::Http(_) | RegistryError::Status { .. } => ErrorKind::Unavailable,
        RegistryError::Unauthorized { .. } | RegistryError::Login { .. } => ErrorKind::Unauthorized,
        RegistryError::NotFound { .. } => ErrorKind::NotFound,
        RegistryError::Digest { .. } | RegistryError::Length { .. } => ErrorKind::BadImage,
    }
}
