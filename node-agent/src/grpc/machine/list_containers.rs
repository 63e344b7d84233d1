//! `ListContainers`: containers of all pods, whoever asked for them.

use super::list_pods::source;
use crate::grpc::Api;
use crate::grpc::convert::jiff_timestamp;
use ingot_api::machine::v1 as pb;
use ingot_runtime::reach::{ContainerInfo, InfoState};
use tonic::Status;

pub(super) async fn call(
    api: &Api,
    _: pb::ListContainersRequest,
) -> Result<pb::ListContainersResponse, Status> {
    let engine = super::engine(api).await?;
    let containers = engine.containers().into_iter().map(container).collect();
    Ok(pb::ListContainersResponse { containers })
}

fn container(info: ContainerInfo) -> pb::RunningContainer {
    let state = match info.state {
        InfoState::Waiting => "waiting",
        InfoState::Created => "created",
        InfoState::Running => "running",
        InfoState::Ended => "ended",
    };
    pb::RunningContainer {
        id: info.id,
        namespace: info.namespace,
        pod: info.pod,
        container: info.container,
        source: source(info.source).to_owned(),
        image: info.image,
        state: state.to_owned(),
        pid: info.pid,
        started_at: info.started_at.map(jiff_timestamp),
        cgroup: info.cgroup,
        restarts: info.restarts,
        exit_code: info.exit_code,
        sandbox: info.sandbox,
    }
}
