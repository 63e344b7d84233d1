//! `top`: what containers use, busiest first.

use super::stats::{find, rate_millis};
use crate::cli::{Format, Top};
use crate::client::Node;
use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{ContainerStats, PodStatsRequest, PodStatsResponse};

/// Begins at the top left of an empty screen.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

pub(super) async fn run(session: &Session<'_>, args: &Top) -> Result<(), Failure> {
    let node = session.connect().await?;
    let again = !args.once && session.output.format == Format::Table && session.output.terminal;
    let mut before = ask(&node, args).await?;
    loop {
        tokio::time::sleep(args.interval).await;
        let mut now = ask(&node, args).await?;
        now.containers.sort_by_key(|stats| std::cmp::Reverse(order(&before, stats)));
        if again {
            session.output.verbatim(CLEAR.as_bytes())?;
        }
        session.output.answer("PodStatsResponse", &now, |now| show(now, &before))?;
        if !again {
            return Ok(());
        }
        before = now;
    }
}

async fn ask(node: &Node, args: &Top) -> Result<PodStatsResponse, Failure> {
    let namespace = args.namespace.clone().unwrap_or_default();
    let message = PodStatsRequest { namespace, pod: String::new() };
    let ask = async |mut api: ingot_api::machine::v1::machine_client::MachineClient<_>, request| {
        api.pod_stats(request).await
    };
    Ok(node.call("PodStats", message, ask).await?)
}

fn cpu(before: &PodStatsResponse, stats: &ContainerStats) -> Option<u64> {
    rate_millis(find(before, stats)?, stats)
}

fn order(before: &PodStatsResponse, stats: &ContainerStats) -> (Option<u64>, u64) {
    (cpu(before, stats), stats.memory_working_set_bytes)
}

fn show(now: &PodStatsResponse, before: &PodStatsResponse) -> String {
    let rows = now.containers.iter().map(|stats| {
        [
            format!("{}/{}", text::pod(&stats.namespace, &stats.pod), stats.container),
            text::or_dash(&stats.source),
            cpu(before, stats).map_or_else(|| "-".to_owned(), |millis| format!("{millis}m")),
            text::limit(stats.cpu_limit_millicores, |limit| format!("{limit}m")),
            text::bytes(stats.memory_working_set_bytes),
            text::limit(stats.memory_limit_bytes, text::bytes),
            stats.pids.to_string(),
        ]
    });
    let headings = ["CONTAINER", "SOURCE", "CPU", "CPU LIMIT", "MEMORY", "MEMORY LIMIT", "PIDS"];
    table(headings, rows.collect())
}
