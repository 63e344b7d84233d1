//! RPCs about resource use.

use std::sync::Arc;

use ingot_runtime::sandboxes::{CallError, Container, Sandbox};
use tonic::Status;

use super::{Pieces, pieces};
use crate::check::required;
use crate::server::Parts;
use crate::{filter, show, status as statuses, v1};

pub(super) async fn container(
    parts: &Parts,
    request: v1::ContainerStatsRequest,
) -> Result<v1::ContainerStatsResponse, Status> {
    let id = required("container_id", request.container_id)?;
    let found = parts.sandboxes.find_container(&id);
    let found = found.ok_or_else(|| statuses::call(CallError::NoContainer { id }))?;
    let usage = parts.sandboxes.container_usage(vec![found]).await;
    let usage = usage.first().ok_or_else(|| statuses::call(CallError::Ending))?;
    Ok(v1::ContainerStatsResponse {
        stats: Some(show::container_stats(usage, &parts.images.usage())),
    })
}

/// Containers that have a process and are meant.
async fn containers(
    parts: &Parts,
    wanted: Option<v1::ContainerStatsFilter>,
) -> Vec<v1::ContainerStats> {
    let wanted = wanted.map(|wanted| v1::ContainerFilter {
        id: wanted.id,
        state: None,
        pod_sandbox_id: wanted.pod_sandbox_id,
        label_selector: wanted.label_selector,
    });
    let sandboxes = parts.sandboxes.list();
    let found = filter::containers(&sandboxes, wanted).into_iter();
    let running = found.filter(|container| container.process().is_some());
    let of = |container: Arc<Container>| -> Option<(Arc<Sandbox>, Arc<Container>)> {
        let sandbox = sandboxes.iter().find(|sandbox| sandbox.id == container.sandbox_id)?;
        Some((sandbox.clone(), container))
    };
    let usage = parts.sandboxes.container_usage(running.filter_map(of).collect()).await;
    let store = parts.images.usage();
    usage.iter().map(|usage| show::container_stats(usage, &store)).collect()
}

pub(super) async fn list_containers(
    parts: &Parts,
    request: v1::ListContainerStatsRequest,
) -> Result<v1::ListContainerStatsResponse, Status> {
    Ok(v1::ListContainerStatsResponse { stats: containers(parts, request.filter).await })
}

pub(super) async fn stream_containers(
    parts: &Parts,
    request: v1::StreamContainerStatsRequest,
) -> Result<Pieces<v1::StreamContainerStatsResponse>, Status> {
    let items = containers(parts, request.filter).await;
    Ok(pieces(items, |container_stats| v1::StreamContainerStatsResponse { container_stats }))
}

pub(super) async fn sandbox(
    parts: &Parts,
    request: v1::PodSandboxStatsRequest,
) -> Result<v1::PodSandboxStatsResponse, Status> {
    let id = required("pod_sandbox_id", request.pod_sandbox_id)?;
    let found = parts.sandboxes.find(&id);
    let found = found.ok_or_else(|| statuses::call(CallError::NoSandbox { id }))?;
    let usage = parts.sandboxes.sandbox_usage(vec![found]).await;
    let usage = usage.first().ok_or_else(|| statuses::call(CallError::Ending))?;
    let stats = show::sandbox_stats(usage, &parts.images.usage());
    Ok(v1::PodSandboxStatsResponse { stats: Some(stats) })
}

/// Sandboxes that are ready and meant.
async fn sandboxes(
    parts: &Parts,
    wanted: Option<v1::PodSandboxStatsFilter>,
) -> Vec<v1::PodSandboxStats> {
    let ready = v1::PodSandboxState::SandboxReady.into();
    let wanted = wanted.unwrap_or_default();
    let wanted = v1::PodSandboxFilter {
        id: wanted.id,
        state: Some(v1::PodSandboxStateValue { state: ready }),
        label_selector: wanted.label_selector,
    };
    let found = filter::sandboxes(parts.sandboxes.list(), Some(wanted));
    let usage = parts.sandboxes.sandbox_usage(found).await;
    let store = parts.images.usage();
    usage.iter().map(|usage| show::sandbox_stats(usage, &store)).collect()
}

pub(super) async fn list_sandboxes(
    parts: &Parts,
    request: v1::ListPodSandboxStatsRequest,
) -> Result<v1::ListPodSandboxStatsResponse, Status> {
    Ok(v1::ListPodSandboxStatsResponse { stats: sandboxes(parts, request.filter).await })
}

pub(super) async fn stream_sandboxes(
    parts: &Parts,
    request: v1::StreamPodSandboxStatsRequest,
) -> Result<Pieces<v1::StreamPodSandboxStatsResponse>, Status> {
    let items = sandboxes(parts, request.filter).await;
    Ok(pieces(items, |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse { pod_sandbox_stats }))
}
