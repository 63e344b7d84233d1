//! `Cgroups`: the tree with limits, usage and pressure.

use crate::grpc::Api;
use crate::grpc::status::{cancelled, with_hint};
use crate::inspect::cgroups::{self, Cgroup};
use ingot_api::machine::v1 as pb;
use tonic::{Code, Status};

pub(super) async fn call(
    _: &Api,
    request: pb::CgroupsRequest,
) -> Result<pb::CgroupsResponse, Status> {
    let path = request.path;
    let read = tokio::task::spawn_blocking(move || cgroups::tree(&path).ok_or(path));
    let tree = read.await.map_err(|_| cancelled())?.map_err(|path| {
        let message = format!("there is no cgroup \"{path}\"");
        with_hint(Code::NotFound, message, "list them with `ingotctl cgroups`")
    })?;
    Ok(pb::CgroupsResponse { cgroups: tree.into_iter().map(cgroup).collect() })
}

fn cgroup(group: Cgroup) -> pb::Cgroup {
    pb::Cgroup {
        path: group.path,
        cpu_weight: group.cpu_weight,
        cpu_max_quota_usec: group.cpu_max_quota_usec,
        cpu_max_period_usec: group.cpu_max_period_usec,
        cpu_usage_usec: group.cpu_usage_usec,
        memory_min_bytes: group.memory_min,
        memory_low_bytes: group.memory_low,
        memory_max_bytes: group.memory_max,
        memory_current_bytes: group.memory_current,
        memory_peak_bytes: group.memory_peak,
        pids_max: group.pids_max,
        pids_current: group.pids_current,
        cpu_pressure_some_avg10: group.cpu_pressure,
        memory_pressure_some_avg10: group.memory_pressure,
        io_pressure_some_avg10: group.io_pressure,
        oom_kills: group.oom_kills,
    }
}
