//! `cgroups`: the tree of cgroups with limits, use and pressure.

use crate::cli::Cgroups;
use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{Cgroup, CgroupsRequest, CgroupsResponse};

pub(super) async fn run(session: &Session<'_>, args: &Cgroups) -> Result<(), Failure> {
    let node = session.connect().await?;
    let message = CgroupsRequest { path: args.path.clone() };
    let answer =
        node.call("Cgroups", message, async |mut api, request| api.cgroups(request).await).await?;
    session.output.answer("CgroupsResponse", &answer, show)
}

fn show(answer: &CgroupsResponse) -> String {
    let rows = answer.cgroups.iter().map(|group| {
        [
            indented(&group.path),
            text::seconds(group.cpu_usage_usec),
            cpu_max(group),
            text::limit(group.cpu_weight, |weight| weight.to_string()),
            text::bytes(group.memory_current_bytes),
            text::bytes(group.memory_peak_bytes),
            text::limit(group.memory_max_bytes, text::bytes),
            format!(
                "{}/{}",
                text::limit(group.memory_min_bytes, text::bytes),
                text::limit(group.memory_low_bytes, text::bytes)
            ),
            format!(
                "{}/{}",
                group.pids_current,
                text::limit(group.pids_max, |max| max.to_string())
            ),
            group.oom_kills.to_string(),
            [
                group.cpu_pressure_some_avg10,
                group.memory_pressure_some_avg10,
                group.io_pressure_some_avg10,
            ]
            .map(text::percent)
            .join(" "),
        ]
    });
    let headings = [
        "CGROUP",
        "CPU",
        "CPU MAX",
        "WEIGHT",
        "MEMORY",
        "PEAK",
        "MAX",
        "MIN/LOW",
        "PIDS",
        "OOM KILLS",
        "PRESSURE CPU MEM IO",
    ];
    table(headings, rows.collect())
}

/// The last part of the path, below its parents.
fn indented(path: &str) -> String {
    let path = path.trim_matches('/');
    let depth = path.matches('/').count();
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.is_empty() { "/".to_owned() } else { format!("{}{name}", "  ".repeat(depth)) }
}

fn cpu_max(group: &Cgroup) -> String {
    match (group.cpu_max_quota_usec, group.cpu_max_period_usec) {
        (0, _) | (_, 0) => "-".to_owned(),
        (quota, period) => format!("{}m", u128::from(quota) * 1000 / u128::from(period)),
    }
}
