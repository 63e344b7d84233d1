//! How a remote command ended, as the error stream says it: `metav1.Status` in JSON since protocol v4, and text of failures only before.

use crate::backend::{BackendError, chain};
use serde_json::json;

/// What to write to the error stream for an exec, empty for nothing.
pub(crate) fn exec(result: &Result<i32, BackendError>, json: bool) -> Vec<u8> {
    match result {
        Ok(0) => success(json),
        Ok(code) => exit_code(*code, json),
        Err(error) => {
            failure(&format!("error executing command in container: {}", chain(error)), json)
        }
    }
}

/// The same for an attach.
pub(crate) fn attach(result: &Result<(), BackendError>, json: bool) -> Vec<u8> {
    match result {
        Ok(()) => success(json),
        Err(error) => failure(&format!("error attaching to container: {}", chain(error)), json),
    }
}

fn success(json: bool) -> Vec<u8> {
    if !json {
        return Vec::new();
    }
    json!({ "metadata": {}, "status": "Success" }).to_string().into_bytes()
}

fn exit_code(code: i32, json: bool) -> Vec<u8> {
    let message = format!("command terminated with non-zero exit code: {code}");
    if !json {
        return message.into_bytes();
    }
    let status = json!({
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    });
    status.to_string().into_bytes()
}

fn failure(message: &str, json: bool) -> Vec<u8> {
    if !json {
        return message.as_bytes().to_vec();
    }
    let status = json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": { "causes": [{ "message": message }] },
        "code": 500,
    });
    status.to_string().into_bytes()
}
