//! `stats`: what containers use, beside what they may use.

use crate::cli::Stats;
use crate::client::Node;
use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{ContainerStats, PodStatsRequest, PodStatsResponse};
use prost_types::Timestamp;

pub(super) async fn run(session: &Session<'_>, args: &Stats) -> Result<(), Failure> {
    let node = session.connect().await?;
    let mut before = None;
    if let Some(interval) = args.interval {
        before = Some(ask(&node, args).await?);
        tokio::time::sleep(interval).await;
    }
    let answer = ask(&node, args).await?;
    session.output.answer("PodStatsResponse", &answer, |answer| show(answer, before.as_ref()))
}

async fn ask(node: &Node, args: &Stats) -> Result<PodStatsResponse, Failure> {
    let message = match &args.pod {
        Some(pod) => PodStatsRequest { namespace: args.namespace.clone(), pod: pod.clone() },
        None => PodStatsRequest::default(),
    };
    let ask = async |mut api: ingot_api::machine::v1::machine_client::MachineClient<_>, request| {
        api.pod_stats(request).await
    };
    Ok(node.call("PodStats", message, ask).await?)
}

fn show(answer: &PodStatsResponse, before: Option<&PodStatsResponse>) -> String {
    let rows = answer.containers.iter().map(|stats| {
        let earlier = before.and_then(|before| find(before, stats));
        [
            format!("{}/{}", text::pod(&stats.namespace, &stats.pod), stats.container),
            earlier.map_or_else(|| text::seconds(stats.cpu_usage_usec), |e| rate(e, stats)),
            text::limit(stats.cpu_limit_millicores, |limit| format!("{limit}m")),
            format!("{}/{}", stats.cpu_throttled_periods, stats.cpu_periods),
            text::bytes(stats.memory_working_set_bytes),
            text::bytes(stats.memory_peak_bytes),
            text::limit(stats.memory_limit_bytes, text::bytes),
            stats.oom_kills.to_string(),
            format!("{}/{}", stats.pids, text::limit(stats.pids_limit, |limit| limit.to_string())),
            [
                stats.cpu_pressure_some_avg10,
                stats.memory_pressure_some_avg10,
                stats.io_pressure_some_avg10,
            ]
            .map(text::percent)
            .join(" "),
        ]
    });
    let headings = [
        "CONTAINER",
        "CPU",
        "CPU LIMIT",
        "THROTTLED",
        "MEMORY",
        "PEAK",
        "MEMORY LIMIT",
        "OOM KILLS",
        "PIDS",
        "PRESSURE CPU MEM IO",
    ];
    table(headings, rows.collect())
}

/// The same container in an earlier answer.
pub(super) fn find<'a>(
    before: &'a PodStatsResponse,
    now: &ContainerStats,
) -> Option<&'a ContainerStats> {
    before.containers.iter().find(|earlier| {
        (&earlier.namespace, &earlier.pod, &earlier.container)
            == (&now.namespace, &now.pod, &now.container)
    })
}

/// CPU used between two samples, in thousandths of one CPU, by the node's clock; `-` when the container was made anew.
fn rate(before: &ContainerStats, now: &ContainerStats) -> String {
    rate_millis(before, now).map_or_else(|| "-".to_owned(), |millis| format!("{millis}m"))
}

/// The same as a number.
pub(super) fn rate_millis(before: &ContainerStats, now: &ContainerStats) -> Option<u64> {
    let usec = |time: &Option<Timestamp>| {
        time.as_ref()
            .map_or(0, |time| i128::from(time.seconds) * 1_000_000 + i128::from(time.nanos) / 1000)
    };
    let elapsed = u128::try_from(usec(&now.time) - usec(&before.time)).ok()?;
    let used = now.cpu_usage_usec.checked_sub(before.cpu_usage_usec)?;
    u64::try_from((u128::from(used) * 1000).checked_div(elapsed)?).ok()
}

#[cfg(test)]
mod tests;
