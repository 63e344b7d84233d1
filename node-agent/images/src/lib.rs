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
mod image;
mod reference;
mod store;

pub use auth::Auth;
pub use config::{Endpoint, Limits, Registry, StoreConfig, Timeouts};
pub use digest::Digest;
pub use error::{Error, ErrorKind};
pub use image::{Image, ImageConfig};
pub use reference::{Reference, ReferenceError};
pub use store::{Hold, ImageStore, Progress, Usage};
