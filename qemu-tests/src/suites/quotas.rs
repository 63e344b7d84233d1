//! Suite `quotas`: limits on CPU, memory and processes hold, the API says so, and it answers meanwhile.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ingot_api::machine::v1::ContainerStats;
use ingot_api::machine::v1::container::State;

use super::{SharedNode, apply_pods};
use crate::client::Api;
use crate::documents::Pod;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// A container starts, in emulation on a busy host.
const START_LIMIT: Duration = Duration::from_secs(90);
/// What the pod may use: a quarter of one processor.
const SHARE_PERCENT: f64 = 25.0;
/// How far off it may be.
const TOLERANCE_PERCENT: f64 = 2.0;
/// How long it is measured, in the guest's time.
const MEASURE: Duration = Duration::from_secs(20);
/// Limit of the pod that wants more memory.
const MEMORY_LIMIT: u64 = 32 << 20;
/// Limit of the pod that forks.
const PIDS_LIMIT: u64 = 40;

/// Runs the suite.
pub(super) async fn run(node: &mut SharedNode<'_>, report: &Report) {
    let Some(machine) = node.get(report).await else { return };
    report.check("the pods under quotas start", machine, start).await;
    let note = report.clone();
    report
        .check(
            "a pod limited to 250m CPU that spins gets 25 % of one processor",
            machine,
            async |machine| {
                let percent = cpu_share(machine).await?;
                note.note(&format!(
                    "a spinning pod limited to 250m got {percent:.2} % of one processor"
                ));
                let off = (percent - SHARE_PERCENT).abs();
                ensure!(off <= TOLERANCE_PERCENT, "it got {percent:.2} %");
                Ok(())
            },
        )
        .await;
    report
        .check(
            "a pod over its memory limit is killed alone, restarts, and is named",
            machine,
            memory,
        )
        .await;
    report.check("a fork bomb stops at its limit", machine, fork_bomb).await;
    report.check("the limits are visible in the cgroup tree", machine, tree).await;
    report.check("the API answers under all of it", machine, api_answers).await;
    report
        .check("the pods under quotas stop when they leave the config", machine, async |machine| {
            let mut api = machine.api()?;
            apply_pods(machine, &mut api, &[]).await?;
            wait::until("every pod to be gone", START_LIMIT, async || {
                Ok(api.pods().await?.is_empty().then_some(()))
            })
            .await
        })
        .await;
}

fn pods() -> Vec<String> {
    vec![
        Pod::new("spin", &["spin"]).cpu("250m").memory("32Mi").document(),
        Pod::new("bystander", &["sleep"]).memory("32Mi").document(),
        Pod::new("hog", &["hog", "64"]).memory("32Mi").document(),
        Pod::new("bomb", &["fork-bomb"]).cpu("200m").memory("64Mi").pids(40).document(),
    ]
}

async fn start(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    apply_pods(machine, &mut api, &pods()).await?;
    for pod in ["spin", "bystander", "bomb"] {
        wait::until(&format!("pod {pod} to run"), START_LIMIT, async || {
            let container = api.container(pod).await?;
            ensure!(
                container.state() == State::Running,
                "{} {}",
                container.reason,
                container.message
            );
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// Percent of one processor the spinning pod got, by its cgroup's usage and the node's clock.
async fn cpu_share(machine: &mut Machine) -> anyhow::Result<f64> {
    let mut api = machine.api()?;
    let begin = api.stats("spin").await?;
    ensure!(begin.cpu_limit_millicores == 250, "the limit is {}", begin.cpu_limit_millicores);
    let end = wait::until("the measured time to pass", MEASURE * 10, async || {
        let now = api.stats("spin").await?;
        Ok((seconds(&now)? - seconds(&begin)? >= MEASURE.as_secs_f64()).then_some(now))
    })
    .await?;
    ensure!(end.cpu_throttled_periods > begin.cpu_throttled_periods, "it was never throttled");
    let used = Duration::from_micros(end.cpu_usage_usec - begin.cpu_usage_usec).as_secs_f64();
    Ok(used / (seconds(&end)? - seconds(&begin)?) * 100.0)
}

fn seconds(stats: &ContainerStats) -> anyhow::Result<f64> {
    let time = stats.time.context("stats without a time")?;
    let since = Duration::new(u64::try_from(time.seconds)?, u32::try_from(time.nanos)?);
    Ok(since.as_secs_f64())
}

async fn memory(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let container =
        wait::until("the hog to be killed and started again", START_LIMIT, async || {
            let container = api.container("hog").await?;
            let killed = container.history.iter().any(|run| run.reason == "OOMKilled");
            Ok((killed && container.restarts > 0).then_some(container))
        })
        .await?;
    ensure!(
        container.history.iter().all(|run| run.reason == "OOMKilled"),
        "{:?}",
        container.history
    );
    let event = wait::until("an event about it", START_LIMIT, async || {
        let events = api.events().await?;
        Ok(events.into_iter().find(|event| event.reason == "OOMKilled"))
    })
    .await?;
    ensure!(event.object == "container/default/hog/main", "the event is about {}", event.object);
    let limit = [MEMORY_LIMIT.to_string(), "32Mi".to_owned(), "32 MiB".to_owned()];
    ensure!(
        limit.iter().any(|limit| event.message.contains(limit.as_str())),
        "the event does not name the limit: {}",
        event.message
    );
    let stats = api.stats("hog").await;
    if let Ok(stats) = stats {
        ensure!(
            stats.memory_peak_bytes <= MEMORY_LIMIT,
            "it reached {} bytes",
            stats.memory_peak_bytes
        );
    }
    unharmed(&mut api).await
}

/// The other pods never ended.
async fn unharmed(api: &mut Api) -> anyhow::Result<()> {
    for pod in ["spin", "bystander", "bomb"] {
        let container = api.container(pod).await?;
        ensure!(
            container.state() == State::Running && container.restarts == 0,
            "pod {pod} was harmed: {container:?}"
        );
    }
    Ok(())
}

async fn fork_bomb(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let stats = wait::until("the fork bomb to reach its limit", START_LIMIT, async || {
        let stats = api.stats("bomb").await?;
        ensure!(stats.pids_limit == PIDS_LIMIT, "its limit is {}", stats.pids_limit);
        Ok((stats.pids == PIDS_LIMIT).then_some(stats))
    })
    .await?;
    ensure!(stats.pids <= stats.pids_limit, "{stats:?}");
    unharmed(&mut api).await
}

async fn tree(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let path = api.container("spin").await?.cgroup;
    let path = path.trim_start_matches('/');
    let groups = api.cgroups(path).await?;
    let group = groups.iter().find(|group| group.path.trim_matches('/') == path);
    let group = group.with_context(|| format!("{path} is not in the tree"))?;
    ensure!(group.cpu_max_quota_usec * 4 == group.cpu_max_period_usec, "{group:?}");
    ensure!(group.memory_max_bytes == MEMORY_LIMIT, "{group:?}");
    ensure!(group.cpu_usage_usec > 0 && group.memory_current_bytes > 0, "{group:?}");
    let service = api.cgroups("system/ingotd").await?;
    let agent = service.first().context("the agent has no cgroup")?;
    ensure!(
        agent.memory_max_bytes > 0 && agent.memory_min_bytes > 0,
        "the agent has no limits: {agent:?}"
    );
    Ok(())
}

async fn api_answers(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    for _ in 0..20 {
        let answer = tokio::time::timeout(Duration::from_secs(10), api.version()).await;
        answer.context("the API is silent while pods misbehave")??;
    }
    Ok(())
}
