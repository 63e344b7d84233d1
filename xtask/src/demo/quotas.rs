//! The demo's pods, and the proof that their quotas hold.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use comfy_table::Table;
use ingot_api::machine::v1::container::State;
use ingot_api::machine::v1::{ContainerStats, Stage};
use ingot_qemu_tests::client::Api;
use ingot_qemu_tests::documents::Pod;
use ingot_qemu_tests::wait;

use super::waiting;

/// A config comes true or a pod reaches a state, in emulation.
const LIMIT: Duration = Duration::from_secs(180);
/// How long the spinning pod is measured, in the node's time.
const MEASURE: Duration = Duration::from_secs(10);
/// Most processes of the forking pod.
const PIDS: u64 = 32;
/// How far the measured share may be from the limit, in percent of one processor. The test suite is stricter.
const TOLERANCE: f64 = 2.0;

/// The pods of the demo.
pub(super) fn pods() -> Vec<String> {
    vec![
        Pod::new("spins", &["spin"]).cpu("250m").memory("32Mi").document(),
        Pod::new("wants-more", &["hog", "128"]).memory("64Mi").document(),
        Pod::new("forks", &["fork-bomb"]).cpu("100m").memory("64Mi").pids(32).document(),
        Pod::new("behaves", &["tick", "1000"]).cpu("100m").memory("32Mi").document(),
    ]
}

/// Waits until the node says that its config is true.
pub(super) async fn running(api: &mut Api) -> anyhow::Result<()> {
    wait::until("the node to reach the stage Running", LIMIT, async || {
        let status = api.status().await?;
        // Pods that misbehave on purpose keep a node from being Running; it has done what it can then.
        match status.stage() {
            Stage::Running | Stage::Degraded => Ok(Some(())),
            other => bail!("the stage is {other:?}"),
        }
    })
    .await
}

/// Shows each quota being enforced.
pub(super) async fn prove(api: &mut Api, table: &mut Table) -> anyhow::Result<()> {
    for pod in ["spins", "forks", "behaves"] {
        waiting(&format!("pod {pod} starts"), runs(api, pod)).await?;
    }
    let percent = waiting("measuring the spinning pod for 10 s", cpu(api)).await?;
    table.add_row([
        "a pod that spins, limit 250m",
        "25 % of one processor",
        &format!("{percent:.1} %"),
    ]);
    let killed = waiting("a pod wants 128 MiB and may have 64", killed(api)).await?;
    table.add_row(["a pod over its memory limit", "killed alone, started again", &killed]);
    let pids = waiting("a pod forks without end", forks(api)).await?;
    table.add_row(["a fork bomb, limit 32 processes", "stops at 32", &format!("{pids} processes")]);
    let behaves = api.container("behaves").await?;
    ensure!(behaves.restarts == 0, "the pod that behaves was harmed: {behaves:?}");
    table.add_row([
        "the pod beside them",
        "notices nothing",
        &format!("running, {} restarts", behaves.restarts),
    ]);
    Ok(())
}

async fn runs(api: &mut Api, pod: &str) -> anyhow::Result<()> {
    wait::until(&format!("pod {pod} to run"), LIMIT, async || {
        let container = api.container(pod).await?;
        ensure!(container.state() == State::Running, "{} {}", container.reason, container.message);
        Ok(Some(()))
    })
    .await
}

/// Percent of one processor, by the cgroup and the node's clock.
async fn cpu(api: &mut Api) -> anyhow::Result<f64> {
    let begin = api.stats("spins").await?;
    let end = wait::until("the measured time to pass", MEASURE * 10, async || {
        let now = api.stats("spins").await?;
        Ok((seconds(&now)? - seconds(&begin)? >= MEASURE.as_secs_f64()).then_some(now))
    })
    .await?;
    let used = Duration::from_micros(end.cpu_usage_usec.saturating_sub(begin.cpu_usage_usec));
    let percent = used.as_secs_f64() / (seconds(&end)? - seconds(&begin)?) * 100.0;
    ensure!((percent - 25.0).abs() <= TOLERANCE, "the pod limited to 250m got {percent:.1} %");
    Ok(percent)
}

fn seconds(stats: &ContainerStats) -> anyhow::Result<f64> {
    let time = stats.time.context("stats without a time")?;
    Ok(Duration::new(u64::try_from(time.seconds)?, u32::try_from(time.nanos)?).as_secs_f64())
}

/// The event's words, once the killed container was also started again.
async fn killed(api: &mut Api) -> anyhow::Result<String> {
    wait::until("the kill to be an event", LIMIT, async || {
        let event = api.events().await?.into_iter().find(|event| event.reason == "OOMKilled");
        let again = api.container("wants-more").await?.restarts > 0;
        Ok(event.filter(|_| again).map(|event| event.message))
    })
    .await
}

async fn forks(api: &mut Api) -> anyhow::Result<u64> {
    wait::until("the fork bomb to reach its limit", LIMIT, async || {
        let stats = api.stats("forks").await?;
        ensure!(stats.pids <= PIDS, "it has {} processes", stats.pids);
        Ok((stats.pids == PIDS).then_some(stats.pids))
    })
    .await
}
