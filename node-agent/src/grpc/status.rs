//! The one mapping from our errors to gRPC status codes, each with what the caller should do.

use crate::report;
use std::error::Error;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// A status with a hint: what the caller should do.
pub(crate) fn with_hint(code: Code, message: impl Into<String>, hint: &str) -> Status {
    let mut metadata = MetadataMap::new();
    if !hint.is_empty() {
        metadata.insert_bin(ingot_api::HINT_METADATA, MetadataValue::from_bytes(hint.as_bytes()));
    }
    Status::with_metadata(code, message, metadata)
}

/// Something that should have worked did not; the whole chain goes to the caller, who is the operator.
pub(crate) fn failed(error: &(dyn Error + 'static), hint: &str) -> Status {
    with_hint(code_of(error), report::chain(error), hint)
}

/// A blocking task that was cancelled, which happens only while the program ends.
pub(crate) fn cancelled() -> Status {
    with_hint(Code::Unavailable, "the node agent is stopping", "try again in a second")
}

/// The code that fits the first I/O error in the chain.
fn code_of(error: &(dyn Error + 'static)) -> Code {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Code::NotFound,
                std::io::ErrorKind::PermissionDenied => Code::PermissionDenied,
                std::io::ErrorKind::InvalidInput => Code::InvalidArgument,
                std::io::ErrorKind::StorageFull => Code::ResourceExhausted,
                _ => Code::Internal,
            };
        }
        next = error.source();
    }
    Code::Internal
}
