//! `ListPods`: pods with their containers.

use crate::grpc::Api;
use crate::grpc::convert::jiff_timestamp;
use ingot_api::machine::v1 as pb;
use ingot_runtime::pod::Source;
use ingot_runtime::status::{ContainerState, ContainerStatus, ExitRecord, PodStatus};
use tonic::Status;

pub(super) async fn call(
    api: &Api,
    _: pb::ListPodsRequest,
) -> Result<pb::ListPodsResponse, Status> {
    let engine = super::engine(api).await?;
    Ok(pb::ListPodsResponse { pods: engine.snapshot().iter().map(pod).collect() })
}

fn pod(pod: &PodStatus) -> pb::Pod {
    let source = match pod.source {
        Source::Config => "config",
        Source::ControlPlane => "control-plane",
        Source::Cri => "cri",
    };
    pb::Pod {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        phase: pod.phase.as_str().to_owned(),
        reason: pod.reason.clone(),
        message: pod.message.clone(),
        ips: pod.ips.iter().map(ToString::to_string).collect(),
        host_network: pod.host_network,
        started_at: pod.started_at.map(jiff_timestamp),
        containers: pod.containers.iter().map(container).collect(),
        source: source.to_owned(),
    }
}

fn container(container: &ContainerStatus) -> pb::Container {
    let state = match container.state {
        ContainerState::Waiting => pb::container::State::Waiting,
        ContainerState::Running => pb::container::State::Running,
        ContainerState::Terminated => pb::container::State::Terminated,
    };
    pb::Container {
        name: container.name.clone(),
        id: container.id.clone(),
        image: container.image.clone(),
        state: state.into(),
        reason: container.reason.clone(),
        message: container.message.clone(),
        restarts: container.restarts,
        pid: container.pid,
        started_at: container.started_at.map(jiff_timestamp),
        finished_at: container.finished_at.map(jiff_timestamp),
        exit_code: container.exit_code,
        signal: container.signal,
        next_start_at: container.next_start_at.map(jiff_timestamp),
        cgroup: container.cgroup.clone(),
        history: container.history.iter().map(exit).collect(),
    }
}

fn exit(exit: &ExitRecord) -> pb::ContainerExit {
    pb::ContainerExit {
        id: exit.id.clone(),
        attempt: exit.attempt,
        exit_code: exit.exit_code,
        signal: exit.signal,
        reason: exit.reason.clone(),
        started_at: exit.started_at.map(jiff_timestamp),
        finished_at: Some(jiff_timestamp(exit.finished_at)),
    }
}
