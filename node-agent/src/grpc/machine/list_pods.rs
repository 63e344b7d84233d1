//! `ListPods`: pods with their containers, and in words what they were asked to be.

mod words;

use crate::grpc::Api;
use crate::grpc::convert::jiff_timestamp;
use ingot_api::machine::v1 as pb;
use ingot_machine_config::v1::pod::Container as Spec;
use ingot_runtime::pod::{RestartPolicy, Role, Source};
use ingot_runtime::status::{Condition, ContainerState, ContainerStatus, ExitRecord, PodStatus};
use tonic::Status;

pub(super) async fn call(
    api: &Api,
    _: pb::ListPodsRequest,
) -> Result<pb::ListPodsResponse, Status> {
    let engine = super::engine(api).await?;
    Ok(pb::ListPodsResponse { pods: engine.snapshot().iter().map(|status| pod(status)).collect() })
}

fn pod(pod: &PodStatus) -> pb::Pod {
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
        containers: pod
            .containers
            .iter()
            .zip(pod.pod.all_containers())
            .map(|(status, spec)| container(status, spec))
            .collect(),
        source: source(pod.source).to_owned(),
        conditions: pod.conditions.iter().map(condition).collect(),
        qos_class: pod.qos_class.as_str().to_owned(),
        priority: pod.pod.priority(),
        labels: pod.pod.labels.clone().into_iter().collect(),
        annotations: pod.pod.annotations.clone().into_iter().collect(),
        created_at: Some(jiff_timestamp(pod.created_at)),
        volumes: pod.pod.spec.volumes.iter().map(volume).collect(),
        restart_policy: match pod.pod.restart_policy() {
            RestartPolicy::Always => "Always",
            RestartPolicy::OnFailure => "OnFailure",
            RestartPolicy::Never => "Never",
        }
        .to_owned(),
    }
}

fn volume(volume: &ingot_machine_config::v1::pod::Volume) -> pb::PodVolume {
    pb::PodVolume { name: volume.name.clone(), source: words::volume(volume) }
}

fn condition(condition: &Condition) -> pb::PodCondition {
    pb::PodCondition {
        name: condition.name.to_owned(),
        status: condition.is_true,
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: Some(jiff_timestamp(condition.since)),
    }
}

/// The API's word for who asked for a pod.
pub(super) fn source(source: Source) -> &'static str {
    match source {
        Source::Config => "config",
        Source::ControlPlane => "control-plane",
        Source::Cri => "cri",
    }
}

fn container(container: &ContainerStatus, spec: &Spec) -> pb::Container {
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
        role: match container.role {
            Role::Init => "init",
            Role::Sidecar => "sidecar",
            Role::Main => "container",
        }
        .to_owned(),
        ready: container.ready,
        started: container.started,
        image_id: container.image_id.clone(),
        limits: words::resources(&spec.resources.limits),
        requests: words::resources(&spec.resources.requests),
        probes: words::probes(spec),
        ports: spec.ports.iter().map(words::port).collect(),
        mounts: spec.volume_mounts.iter().map(words::mount).collect(),
        environment: words::environment(spec),
        command: spec.command.clone(),
        args: spec.args.clone(),
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
        message: exit.message.clone(),
    }
}
