//! Container images of the node: the store on disk, the registry client, and the images bundled in the root.
//!
//! It knows nothing of containers, pods or the CRI: it gives out folders to mount and what an image says about itself.
//! Nothing an image contains decides where something is written, and no credential is logged.
#![forbid(unsafe_code)]

mod auth;
mod bundled;
mod config;
mod digest;
mod error;
mod http;
mod image;
mod layout;
mod notice;
mod pack;
mod reference;
mod registry;
mod source;
mod store;
mod unpack;

pub use auth::Auth;
pub use config::{Host, Limits, Mirror, Sources, StoreConfig, Timeouts};
pub use digest::Digest;
pub use error::{Error, ErrorKind};
pub use http::HttpError;
pub use image::{Image, ImageConfig};
pub use notice::{Notice, Notices};
pub use reference::{Reference, ReferenceError};
pub use registry::RegistryError;
pub use registry::manifest::ManifestError;
pub use store::{Hold, ImageStore, Progress, Usage};
pub use unpack::UnpackError;
