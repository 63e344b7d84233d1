//! `PodStats`: resource use of containers, from their cgroups.

use super::list_pods::source;
use crate::grpc::Api;
use crate::grpc::convert::jiff_timestamp;
use ingot_api::machine::v1 as pb;
use ingot_runtime::reach::ContainerInfo;
use ingot_runtime::stats::{ContainerStats, StatsFilter};
use tonic::Status;

pub(super) async fn call(
    api: &Api,
    request: pb::PodStatsRequest,
) -> Result<pb::PodStatsResponse, Status> {
    let engine = super::engine(api).await?;
    let filter = StatsFilter { namespace: request.namespace, pod: request.pod };
    let stats = engine.stats_of_all(filter).await;
    Ok(pb::PodStatsResponse { containers: stats.into_iter().map(container).collect() })
}

fn container((info, stats): (ContainerInfo, ContainerStats)) -> pb::ContainerStats {
    pb::ContainerStats {
        namespace: stats.namespace,
        pod: stats.pod,
        container: stats.container,
        time: Some(jiff_timestamp(stats.time)),
        cpu_usage_usec: stats.cpu_usage_usec,
        cpu_throttled_usec: stats.cpu_throttled_usec,
        cpu_periods: stats.cpu_periods,
        cpu_throttled_periods: stats.cpu_throttled_periods,
        cpu_limit_millicores: stats.cpu_limit_millis,
        memory_bytes: stats.memory_bytes,
        memory_working_set_bytes: stats.memory_working_set_bytes,
        memory_peak_bytes: stats.memory_peak_bytes,
        memory_limit_bytes: stats.memory_limit_bytes,
        oom_kills: stats.oom_kills,
        pids: stats.pids,
        pids_limit: stats.pids_limit,
        cpu_pressure_some_avg10: stats.cpu_pressure_some_avg10,
        memory_pressure_some_avg10: stats.memory_pressure_some_avg10,
        io_pressure_some_avg10: stats.io_pressure_some_avg10,
        source: source(info.source).to_owned(),
        id: info.id,
    }
}
