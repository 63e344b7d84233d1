//! Errors of the engine as gRPC statuses: the code says what the caller may do, the message is for a person.

use ingot_images::ErrorKind;
use ingot_runtime::sandboxes::CallError;
use tonic::{Code, Status};

/// Longest message of an error, in bytes.
const MESSAGE_MAX: usize = 4096;

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
    new(code, &error.to_string())
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
    new(code, &chain(error))
}

/// A status with a message of bounded length: it travels in a header, escaped to up to three times its length, and a caller that takes
/// headers of 16 KiB hangs up instead of reading it. A caller chooses part of many messages.
pub(crate) fn new(code: Code, message: &str) -> Status {
    if message.len() <= MESSAGE_MAX {
        return Status::new(code, message);
    }
    let end = message.floor_char_boundary(MESSAGE_MAX);
    Status::new(code, format!("{}...", message.get(..end).unwrap_or_default()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_shorter_than_the_headers_that_callers_take() {
        let long = "ü".repeat(MESSAGE_MAX);
        let status = new(Code::Unknown, &long);
        assert!(status.message().len() <= MESSAGE_MAX + 3 && status.message().ends_with("ü..."));
        assert_eq!(new(Code::Unknown, "short").message(), "short");
    }
}
