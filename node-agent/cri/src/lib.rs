//! The Kubernetes CRI (`runtime.v1`, release 1.36) on the pod engine: protobuf in and out, validation, the socket. The only
//! crate that knows this protobuf.
//!
//! It must not keep state of its own: what exists is the engine's, and a restart of the agent loses nothing here.
#![forbid(unsafe_code)]

mod backend;
mod check;
mod convert;
mod filter;
mod server;
mod service;
mod show;
mod status;

pub use backend::Streams;
pub use server::{Parts, ServeError, serve};

/// The protobuf of the CRI.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::doc_overindented_list_items,
    clippy::doc_lazy_continuation,
    reason = "generated code; the comments of the .proto file are its documentation"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

impl std::fmt::Debug for v1::AuthConfig {
    /// Secrets stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}
