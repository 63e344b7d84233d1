//! Suite `agent_crash`: the agent is killed a hundred times while pods run, log and end. Nothing may notice.
//!
//! The machine's clock follows its own instructions, so "within a second" does not depend on how busy the host is.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ingot_api::machine::v1::container::State;
use ingot_api::machine::v1::{Container, DmesgResponse};
use tokio::time::Instant;

use super::{Context, apply_pods};
use crate::client::Api;
use crate::documents::{self, Pod};
use crate::faults::Faults;
use crate::machine::{Firmware, Machine};
use crate::qemu::args::Clock;
use crate::report::Report;
use crate::wait;

/// How often the agent is killed.
const KILLS: usize = 100;
/// Pods that run to their end and exit with a code of their own, spread over the kills.
const JOBS: usize = 12;
/// Bound for one kill and return, by the host's clock: only there so that a dead node ends the test.
const RETURN_LIMIT: Duration = Duration::from_secs(120);
/// The promise: from the agent's end until it listens again, by the guest's clock.
const PROMISE: Duration = Duration::from_secs(1);
/// Longest time between two kills, by the host's clock.
const PAUSE: Duration = Duration::from_millis(1500);
/// Pods start or end.
const POD_LIMIT: Duration = Duration::from_secs(240);

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let mut machine = match boot(context).await {
        Ok(machine) => machine,
        Err(error) => return report.check_alone("the machine starts", async { Err(error) }).await,
    };
    let mut before = None;
    report
        .check("the pods that will be watched start", &mut machine, async |machine| {
            before = Some(start(machine).await?);
            Ok(())
        })
        .await;
    let Some(before) = before else { return };
    let mut faults = context.faults.part("agent_crash");
    report.note(&format!("{KILLS} kills, seed {}", faults.seed()));
    let mut downtimes = Vec::new();
    report
        .check("the agent comes back from every kill", &mut machine, async |machine| {
            for _ in 0..KILLS {
                downtimes.push(kill_once(machine, &mut faults).await?);
            }
            Ok(())
        })
        .await;
    if let Some(longest) = downtimes.iter().max() {
        let sum: Duration = downtimes.iter().sum();
        let mean = sum / u32::try_from(downtimes.len()).unwrap_or(1);
        report.note(&format!("API away for {mean:?} on average, {longest:?} at most (guest time)"));
    }
    report
        .check("the API is back within 1 s each time", &mut machine, async |_| {
            ensure!(downtimes.len() == KILLS, "only {} kills", downtimes.len());
            let late: Vec<&Duration> = downtimes.iter().filter(|time| **time > PROMISE).collect();
            ensure!(late.is_empty(), "{} of {KILLS} took longer: {late:?}", late.len());
            Ok(())
        })
        .await;
    report.check("PID 1 counted every kill", &mut machine, counted).await;
    report
        .check("no pod was restarted", &mut machine, async |machine| {
            same_containers(machine, &before).await
        })
        .await;
    report.check("no exit code was lost", &mut machine, exit_codes).await;
    report.check("no log line was lost or doubled", &mut machine, logs).await;
    report
        .check(
            "a pod that fails on its own went on failing, each run accounted for",
            &mut machine,
            failing_pod,
        )
        .await;
}

async fn boot(context: &Context) -> anyhow::Result<Machine> {
    let credentials = std::rc::Rc::new(crate::credentials::Credentials::generate()?);
    Machine::builder(&context.artifacts, "agent_crash")
        .firmware(Firmware::Direct)
        .clock(Clock::Instructions)
        .cidata(documents::machine(&credentials, "shared"))
        .credentials(credentials)
        .boot()
        .await
}

/// How many lines job `index` prints before it ends, ten a second.
fn job_lines(index: usize) -> usize {
    40 + 60 * index
}

/// The exit code of job `index`: never 0, so that a made-up success is noticed.
fn job_code(index: usize) -> usize {
    11 + index
}

fn pods() -> Vec<String> {
    let mut pods = vec![
        Pod::new("ticker", &["tick", "50"]).document(),
        Pod::new("quiet", &["sleep"]).document(),
        Pod::new("failing", &["tick", "50", "20", "3"]).restart_policy("OnFailure").document(),
    ];
    for index in 0..JOBS {
        let (lines, code) = (job_lines(index).to_string(), job_code(index).to_string());
        let words = ["tick", "100", lines.as_str(), code.as_str()];
        pods.push(Pod::new(&format!("job-{index}"), &words).restart_policy("Never").document());
    }
    pods
}

/// Starts the pods, and returns the containers that must never change.
async fn start(machine: &mut Machine) -> anyhow::Result<BTreeMap<String, Container>> {
    let mut api = machine.wait_running().await?;
    apply_pods(machine, &mut api, &pods()).await?;
    let mut containers = BTreeMap::new();
    for pod in ["ticker", "quiet"] {
        let container = wait::until(&format!("pod {pod} to run"), POD_LIMIT, async || {
            let container = api.container(pod).await?;
            ensure!(container.state() == State::Running && container.pid > 0, "{container:?}");
            Ok(Some(container))
        })
        .await?;
        containers.insert(pod.to_owned(), container);
    }
    Ok(containers)
}

/// Kills the agent at a random moment, waits until the API answers again, and returns how long nobody listened.
async fn kill_once(machine: &mut Machine, faults: &mut Faults) -> anyhow::Result<Duration> {
    tokio::time::sleep(faults.moment(PAUSE)).await;
    let mut api = machine.api()?;
    let last = api.dmesg().await?.last().map_or(0, |record| record.sequence);
    let pid = agent_pid(&mut api).await?;
    machine.crash_agent().await?;
    let deadline = Instant::now() + RETURN_LIMIT;
    let mut api = loop {
        ensure!(Instant::now() < deadline, "the API did not come back");
        let mut api = machine.api()?;
        let answer = tokio::time::timeout(Duration::from_secs(10), agent_pid(&mut api)).await;
        if matches!(answer, Ok(Ok(now)) if now != pid) {
            break api;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let records = api.dmesg().await?;
    downtime(&records, last).with_context(|| {
        let lines: Vec<&str> = records.iter().map(|record| record.message.as_str()).collect();
        format!(
            "read from the kernel log when the agent was away:\n{}",
            lines[lines.len().saturating_sub(12)..].join("\n")
        )
    })
}

/// The agent's process, as PID 1 sees it.
pub(super) async fn agent_pid(api: &mut Api) -> anyhow::Result<i32> {
    let services = api.services().await?;
    let agent = services.into_iter().find(|service| service.name == "ingotd");
    agent.map(|agent| agent.pid).filter(|pid| *pid > 0).context("PID 1 runs no agent")
}

/// From PID 1's word that the agent ended to the agent's word that it listens, after record `last`.
fn downtime(records: &[DmesgResponse], last: u64) -> anyhow::Result<Duration> {
    let mut fresh = records.iter().filter(|record| record.sequence > last);
    let ended = fresh
        .find(|record| record.message.contains("agent") && record.message.contains("signal 9"));
    let ended = time(ended.context("PID 1 did not say that the agent ended")?)?;
    let back = fresh.find(|record| record.message.contains("api listening"));
    Ok(time(back.context("the agent did not say that it listens")?)?.saturating_sub(ended))
}

fn time(record: &DmesgResponse) -> anyhow::Result<Duration> {
    let time = record.time.context("a record without a time")?;
    Ok(Duration::new(u64::try_from(time.seconds)?, u32::try_from(time.nanos)?))
}

async fn counted(machine: &mut Machine) -> anyhow::Result<()> {
    let services = machine.api()?.services().await?;
    let agent = services.iter().find(|service| service.name == "ingotd").context("no agent")?;
    let kills = u32::try_from(KILLS)?;
    ensure!(agent.restarts == kills, "PID 1 counts {} restarts, not {KILLS}", agent.restarts);
    ensure!(agent.state == "running", "{agent:?}");
    Ok(())
}

async fn same_containers(
    machine: &mut Machine,
    before: &BTreeMap<String, Container>,
) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    for (pod, old) in before {
        let now = api.container(pod).await?;
        let same = now.id == old.id
            && now.pid == old.pid
            && now.restarts == 0
            && now.started_at == old.started_at;
        ensure!(same && now.state() == State::Running, "pod {pod} was {old:?} and is {now:?}");
    }
    Ok(())
}

async fn exit_codes(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    for index in 0..JOBS {
        let pod = format!("job-{index}");
        let container = wait::until(&format!("{pod} to end"), POD_LIMIT, async || {
            let container = api.container(&pod).await?;
            Ok((container.state() == State::Terminated).then_some(container))
        })
        .await?;
        let code = i32::try_from(job_code(index))?;
        let right = container.exit_code == code && container.signal == 0 && container.restarts == 0;
        ensure!(right, "{pod} should have ended once, with {code}: {container:?}");
    }
    Ok(())
}

async fn logs(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    for index in 0..JOBS {
        let pod = format!("job-{index}");
        let lines = api.logs(&pod).await?;
        ensure!(
            lines.len() == job_lines(index),
            "{pod} printed {} lines, its log has {}",
            job_lines(index),
            lines.len()
        );
        contiguous(&lines).with_context(|| format!("log of {pod}"))?;
    }
    let lines = api.logs("ticker").await?;
    ensure!(lines.len() > 100, "the ticker's log has {} lines", lines.len());
    contiguous(&lines).context("log of ticker")
}

/// Lines are "tick 1", "tick 2", and so on.
fn contiguous(lines: &[String]) -> anyhow::Result<()> {
    for (index, line) in lines.iter().enumerate() {
        let expected = format!("tick {}", index + 1);
        ensure!(*line == expected, "line {} is {line:?}, not {expected:?}", index + 1);
    }
    Ok(())
}

async fn failing_pod(machine: &mut Machine) -> anyhow::Result<()> {
    let container = machine.api()?.container("failing").await?;
    ensure!(container.restarts > 0, "it never failed: {container:?}");
    ensure!(
        container.history.iter().all(|run| run.exit_code == 3 && run.signal == 0),
        "{:?}",
        container.history
    );
    let attempts: Vec<u32> = container.history.iter().map(|run| run.attempt).collect();
    let gap = attempts.windows(2).find(|pair| pair[1] != pair[0] + 1);
    ensure!(gap.is_none(), "runs are missing: {attempts:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_a_doubled_line_are_noticed() {
        let lines =
            |numbers: &[u32]| numbers.iter().map(|n| format!("tick {n}")).collect::<Vec<_>>();
        assert!(contiguous(&lines(&[1, 2, 3])).is_ok());
        assert!(contiguous(&lines(&[1, 3])).is_err());
        assert!(contiguous(&lines(&[1, 2, 2])).is_err());
    }

    #[test]
    fn the_time_away_is_counted_from_the_newest_kill() {
        let record = |sequence, nanos, message: &str| DmesgResponse {
            sequence,
            time: Some(prost_types::Duration { seconds: 7, nanos }),
            message: message.to_owned(),
            ..Default::default()
        };
        let records = [
            record(1, 0, "ingot-init: agent was ended by signal 9 after 7 ms"),
            record(2, 100, "ingotd: api listening"),
            record(3, 5_000, "ingot-init: agent was ended by signal 9 after 7 ms"),
            record(4, 9_000, "ingotd: api listening"),
        ];
        assert_eq!(downtime(&records, 2).expect("a time"), Duration::from_nanos(4_000));
    }
}
