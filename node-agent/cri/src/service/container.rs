//! RPCs about containers.

use std::time::Duration;

use ingot_runtime::sandboxes::CallError;
use tonic::Status;

use super::{Pieces, pieces};
use crate::check::{Invalid, number, required};
use crate::server::Parts;
use crate::{convert, filter, show, status as statuses, v1};

/// Longest grace: a year. More could not be told from "for ever".
const GRACE_MAX: u64 = 365 * 24 * 3600;

pub(super) async fn create(
    parts: &Parts,
    request: v1::CreateContainerRequest,
) -> Result<v1::CreateContainerResponse, Status> {
    let id = required("pod_sandbox_id", request.pod_sandbox_id)?;
    let sandbox = parts.sandboxes.find(&id);
    let sandbox = sandbox.ok_or_else(|| statuses::call(CallError::NoSandbox { id }))?;
    // `sandbox_config` repeats what the sandbox was made from, and is not looked at.
    let config = request.config.ok_or_else(|| Invalid::new("config", "has to be given"))?;
    let config = convert::container(config, &sandbox.config)?;
    let id = parts.sandboxes.create(&sandbox.id, config).await.map_err(statuses::call)?;
    Ok(v1::CreateContainerResponse { container_id: id })
}

pub(super) async fn start(
    parts: &Parts,
    request: v1::StartContainerRequest,
) -> Result<v1::StartContainerResponse, Status> {
    let id = required("container_id", request.container_id)?;
    parts.sandboxes.start(&id).await.map_err(statuses::call)?;
    Ok(v1::StartContainerResponse {})
}

pub(super) async fn stop(
    parts: &Parts,
    request: v1::StopContainerRequest,
) -> Result<v1::StopContainerResponse, Status> {
    let id = required("container_id", request.container_id)?;
    let seconds: u64 = number("timeout", request.timeout.max(0))?;
    let grace = Duration::from_secs(seconds.min(GRACE_MAX));
    parts.sandboxes.stop_container(&id, grace).await.map_err(statuses::call)?;
    Ok(v1::StopContainerResponse {})
}

pub(super) async fn remove(
    parts: &Parts,
    request: v1::RemoveContainerRequest,
) -> Result<v1::RemoveContainerResponse, Status> {
    let id = required("container_id", request.container_id)?;
    parts.sandboxes.remove_container(&id).await.map_err(statuses::call)?;
    Ok(v1::RemoveContainerResponse {})
}

fn listed(parts: &Parts, filter: Option<v1::ContainerFilter>) -> Vec<v1::Container> {
    let containers = filter::containers(&parts.sandboxes.list(), filter);
    containers.iter().map(|container| show::container(container)).collect()
}

pub(super) async fn list(
    parts: &Parts,
    request: v1::ListContainersRequest,
) -> Result<v1::ListContainersResponse, Status> {
    Ok(v1::ListContainersResponse { containers: listed(parts, request.filter) })
}

pub(super) async fn stream(
    parts: &Parts,
    request: v1::StreamContainersRequest,
) -> Result<Pieces<v1::StreamContainersResponse>, Status> {
    let items = listed(parts, request.filter);
    Ok(pieces(items, |containers| v1::StreamContainersResponse { containers }))
}

pub(super) async fn status(
    parts: &Parts,
    request: v1::ContainerStatusRequest,
) -> Result<v1::ContainerStatusResponse, Status> {
    let id = required("container_id", request.container_id)?;
    let found = parts.sandboxes.find_container(&id);
    let (_, container) = found.ok_or_else(|| statuses::call(CallError::NoContainer { id }))?;
    Ok(v1::ContainerStatusResponse {
        status: Some(show::container_status(&container)),
        info: if request.verbose { show::container_info(&container) } else { Default::default() },
    })
}

pub(super) async fn update(
    parts: &Parts,
    request: v1::UpdateContainerResourcesRequest,
) -> Result<v1::UpdateContainerResourcesResponse, Status> {
    let id = required("container_id", request.container_id)?;
    let given = request.linux.ok_or_else(|| Invalid::new("linux", "has to be given"))?;
    let resources = convert::resources("linux", given)?;
    parts.sandboxes.update_container(&id, resources).await.map_err(statuses::call)?;
    Ok(v1::UpdateContainerResourcesResponse {})
}

pub(super) async fn reopen_log(
    parts: &Parts,
    request: v1::ReopenContainerLogRequest,
) -> Result<v1::ReopenContainerLogResponse, Status> {
    let id = required("container_id", request.container_id)?;
    parts.sandboxes.reopen_log(&id).await.map_err(statuses::call)?;
    Ok(v1::ReopenContainerLogResponse {})
}

/// It would need CRIU, which the image does not have.
pub(super) async fn checkpoint(
    _: &Parts,
    _: v1::CheckpointContainerRequest,
) -> Result<v1::CheckpointContainerResponse, Status> {
    Err(Status::unimplemented("checkpoints are not supported"))
}
