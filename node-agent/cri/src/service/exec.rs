//! RPCs that reach into containers and sandboxes. The streaming ones only hand out URLs.

use std::time::Duration;

use ingot_runtime::sandboxes::CallError;
use ingot_streaming::{AttachRequest, ExecRequest, PortForwardRequest, RequestError, Streams};
use tonic::{Code, Status};

use crate::check::{Checked, Invalid, number, required};
use crate::server::Parts;
use crate::{status as statuses, v1};

/// Longest time a command may take when the caller sets none: an hour. Callers set their own deadline.
const EXEC_MAX: Duration = Duration::from_secs(3600);

pub(super) async fn exec_sync(
    parts: &Parts,
    request: v1::ExecSyncRequest,
) -> Result<v1::ExecSyncResponse, Status> {
    let id = required("container_id", request.container_id)?;
    let command = command(request.cmd)?;
    let seconds: u64 = number("timeout", request.timeout.max(0))?;
    let limit = if seconds == 0 { EXEC_MAX } else { Duration::from_secs(seconds).min(EXEC_MAX) };
    let output = parts.sandboxes.exec_sync(&id, command, limit).await.map_err(statuses::call)?;
    Ok(v1::ExecSyncResponse {
        stdout: output.stdout,
        stderr: output.stderr,
        exit_code: output.exit_code,
    })
}

pub(super) async fn exec(
    parts: &Parts,
    request: v1::ExecRequest,
) -> Result<v1::ExecResponse, Status> {
    let container_id = running(parts, request.container_id)?;
    let v1::ExecRequest { tty, stdin, stdout, stderr, .. } = request;
    let streams = Streams { stdin, stdout, stderr, tty };
    let command = command(request.cmd)?;
    let url = parts.streaming.exec_url(ExecRequest { container_id, command, streams });
    Ok(v1::ExecResponse { url: url.map_err(refused)? })
}

pub(super) async fn attach(
    parts: &Parts,
    request: v1::AttachRequest,
) -> Result<v1::AttachResponse, Status> {
    let container_id = running(parts, request.container_id)?;
    let v1::AttachRequest { tty, stdin, stdout, stderr, .. } = request;
    let streams = Streams { stdin, stdout, stderr, tty };
    let url = parts.streaming.attach_url(AttachRequest { container_id, streams });
    Ok(v1::AttachResponse { url: url.map_err(refused)? })
}

pub(super) async fn port_forward(
    parts: &Parts,
    request: v1::PortForwardRequest,
) -> Result<v1::PortForwardResponse, Status> {
    let id = required("pod_sandbox_id", request.pod_sandbox_id)?;
    let sandbox = parts.sandboxes.find(&id);
    let sandbox = sandbox.ok_or_else(|| statuses::call(CallError::NoSandbox { id }))?;
    if !sandbox.is_ready() {
        let message = format!("sandbox {} is stopped", sandbox.id);
        return Err(Status::failed_precondition(message));
    }
    let ports = request.port.into_iter().map(|port| number("port", port.into()));
    let ports = ports.collect::<Checked<_>>()?;
    let request = PortForwardRequest { sandbox_id: sandbox.id.clone(), ports };
    let url = parts.streaming.port_forward_url(request);
    Ok(v1::PortForwardResponse { url: url.map_err(refused)? })
}

/// The whole id of a container that runs.
fn running(parts: &Parts, id: String) -> Result<String, Status> {
    let id = required("container_id", id)?;
    let found = parts.sandboxes.find_container(&id);
    let (_, container) = found.ok_or_else(|| statuses::call(CallError::NoContainer { id }))?;
    if !container.is_running() {
        let message = format!("container {} does not run", container.id);
        return Err(Status::failed_precondition(message));
    }
    Ok(container.id.clone())
}

fn command(words: Vec<String>) -> Checked<Vec<String>> {
    if words.first().is_none_or(String::is_empty) {
        return Err(Invalid::new("cmd", "is empty; write the program first"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Invalid::new("cmd", "contains a NUL byte"));
    }
    Ok(words)
}

fn refused(error: RequestError) -> Status {
    match error {
        RequestError::Invalid(_) => crate::status::new(Code::InvalidArgument, &error.to_string()),
        RequestError::Busy => Status::resource_exhausted(error.to_string()),
        RequestError::Random | RequestError::Listen(_) => Status::internal(error.to_string()),
    }
}
