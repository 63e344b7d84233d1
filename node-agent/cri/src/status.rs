//! Errors of the engine as gRPC statuses: the code says what the caller may do, the message is for a person.

use ingot_images::ErrorKind;
use ingot_runtime::sandboxes::CallError;
use tonic::{Code, Status};

/// The status of a call that could not be done.
pub(crate) fn call(error: CallError) -> Status {
    let code = match error {
        CallError::NoSandbox { .. } | CallError::NoContainer { .. } | CallError::NoImage { .. } => {
            Code::NotFound
        }
        CallError::Invalid(_) => Code::InvalidArgument,
        CallError::Exists(_) => Code::AlreadyExists,
        CallError::WrongState(_) => Code::FailedPrecondition,
        CallError::Failed(_) => Code::Unknown,
        CallError::TooLong(_) => Code::DeadlineExceeded,
        CallError::Ending => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

/// The status of an image that could not be pulled or removed.
pub(crate) fn image(error: &ingot_images::Error) -> Status {
    let code = match error.kind() {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unauthorized => Code::Unauthenticated,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::BadImage => Code::DataLoss,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Deadline => Code::DeadlineExceeded,
        ErrorKind::Refused => Code::FailedPrecondition,
        ErrorKind::Internal => Code::Internal,
    };
    Status::new(code, chain(error))
}

/// "what: because of: that".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
