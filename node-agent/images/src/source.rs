//! Where an image comes from: a registry, or an archive on the disk. Layers are checked by whoever takes them.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::error::Error;
use crate::layout::Layout;
use crate::registry::manifest::Descriptor;
use crate::registry::{Document, Registries, RegistryError};
use crate::unpack::Piece;

/// Where an image comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Registry(Arc<Registries>),
    Archive(Arc<Layout>),
}

fn failed(reference: &str) -> impl FnOnce(RegistryError) -> Error {
    move |source| Error::Registry { reference: reference.to_owned(), source: source.into() }
}

impl Source {
    /// A manifest or index; `shown` is the image, for messages.
    pub(crate) async fn manifest(
        &self,
        shown: &str,
        name: &str,
        digest: Option<Digest>,
    ) -> Result<Document, Error> {
        match self {
            Self::Registry(registry) => {
                registry.manifest(name, digest).await.map_err(failed(shown))
            }
            Self::Archive(archive) => archive.manifest(digest),
        }
    }

    /// A document that is kept in memory.
    pub(crate) async fn small_blob(
        &self,
        shown: &str,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, Error> {
        match self {
            Self::Registry(registry) => {
                registry.small_blob(descriptor).await.map_err(failed(shown))
            }
            Self::Archive(archive) => archive.small_blob(descriptor),
        }
    }

    /// A layer, piece by piece, with [`Piece::End`] at its end. Stops without an error when nobody takes them.
    pub(crate) async fn blob(
        &self,
        shown: &str,
        descriptor: &Descriptor,
        pieces: &mpsc::Sender<Piece>,
        count: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        match self {
            Self::Registry(registry) => {
                registry.blob(descriptor, pieces, count).await.map_err(failed(shown))
            }
            Self::Archive(archive) => archive.blob(descriptor, pieces, count).await,
        }
    }
}
