//! RPCs about sandboxes.

use ingot_runtime::sandboxes::CallError;
use tonic::Status;

use super::{Pieces, pieces};
use crate::check::required;
use crate::server::Parts;
use crate::{convert, filter, show, status as statuses, v1};

pub(super) async fn run(
    parts: &Parts,
    request: v1::RunPodSandboxRequest,
) -> Result<v1::RunPodSandboxResponse, Status> {
    let config = request.config.unwrap_or_default();
    let config = convert::sandbox(config, request.runtime_handler)?;
    let id = parts.sandboxes.run(config).await.map_err(statuses::call)?;
    Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id })
}

pub(super) async fn stop(
    parts: &Parts,
    request: v1::StopPodSandboxRequest,
) -> Result<v1::StopPodSandboxResponse, Status> {
    let id = required("pod_sandbox_id", request.pod_sandbox_id)?;
    parts.sandboxes.stop(&id).await.map_err(statuses::call)?;
    Ok(v1::StopPodSandboxResponse {})
}

pub(super) async fn remove(
    parts: &Parts,
    request: v1::RemovePodSandboxRequest,
) -> Result<v1::RemovePodSandboxResponse, Status> {
    let id = required("pod_sandbox_id", request.pod_sandbox_id)?;
    parts.sandboxes.remove(&id).await.map_err(statuses::call)?;
    Ok(v1::RemovePodSandboxResponse {})
}

pub(super) async fn status(
    parts: &Parts,
    request: v1::PodSandboxStatusRequest,
) -> Result<v1::PodSandboxStatusResponse, Status> {
    let id = required("pod_sandbox_id", request.pod_sandbox_id)?;
    let sandbox = parts.sandboxes.find(&id);
    let sandbox = sandbox.ok_or_else(|| statuses::call(CallError::NoSandbox { id }))?;
    let containers = sandbox.containers.iter();
    Ok(v1::PodSandboxStatusResponse {
        status: Some(show::sandbox_status(&sandbox)),
        info: if request.verbose { show::sandbox_info(&sandbox) } else { Default::default() },
        containers_statuses: containers.map(|c| show::container_status(c)).collect(),
        timestamp: show::nanoseconds(Some(jiff::Timestamp::now())),
    })
}

fn listed(parts: &Parts, filter: Option<v1::PodSandboxFilter>) -> Vec<v1::PodSandbox> {
    let sandboxes = filter::sandboxes(parts.sandboxes.list(), filter);
    sandboxes.iter().map(|sandbox| show::sandbox(sandbox)).collect()
}

pub(super) async fn list(
    parts: &Parts,
    request: v1::ListPodSandboxRequest,
) -> Result<v1::ListPodSandboxResponse, Status> {
    Ok(v1::ListPodSandboxResponse { items: listed(parts, request.filter) })
}

pub(super) async fn stream(
    parts: &Parts,
    request: v1::StreamPodSandboxesRequest,
) -> Result<Pieces<v1::StreamPodSandboxesResponse>, Status> {
    let items = listed(parts, request.filter);
    Ok(pieces(items, |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes }))
}

/// Limits of a pod after the caller has changed them.
pub(super) async fn update(
    parts: &Parts,
    request: v1::UpdatePodSandboxResourcesRequest,
) -> Result<v1::UpdatePodSandboxResourcesResponse, Status> {
    let id = required("pod_sandbox_id", request.pod_sandbox_id)?;
    let given = request.resources.unwrap_or_default();
    let resources = convert::resources("resources", given)?;
    // The overhead is only checked: what the pod's cgroup may have, the caller has set there itself.
    convert::resources("overhead", request.overhead.unwrap_or_default())?;
    parts.sandboxes.update(&id, resources).await.map_err(statuses::call)?;
    Ok(v1::UpdatePodSandboxResourcesResponse {})
}
