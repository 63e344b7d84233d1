//! When a container is started, and what its end means: a pure machine over the record. No I/O, no clock of its own.
//!
//! It is level-triggered: [`plan`] looks at the record as it is and says what to do now, so it makes no difference whether
//! the agent was killed in between. Times are milliseconds since boot.

use jiff::Timestamp;

use crate::pod::RestartPolicy;
use crate::record::{ContainerRecord, PodRecord, Run, RunPhase};
use crate::status::{ExitRecord, HISTORY_MAX};

/// First delay of the back-off.
const BACKOFF_FIRST_MS: u64 = 10_000;

/// Longest delay of the back-off.
const BACKOFF_MAX_MS: u64 = 300_000;

/// A run of this length clears the back-off.
const HEALTHY_MS: u64 = 600_000;

/// What is wanted of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Its containers run.
    Run,
    /// Nothing of it runs.
    Stopped,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Start this container.
    Start(usize),
    /// Nothing before this time.
    WaitUntil(u64),
    /// Nothing before something happens.
    Wait,
    /// Stop everything that runs.
    Stop,
    /// Nothing runs and nothing is wanted to run.
    Idle,
}

/// What the pod needs next at `now_ms`.
pub(crate) fn plan(record: &PodRecord, want: Want, boot_id: &str, now_ms: u64) -> Step {
    let running = record.containers.iter().any(|c| c.run.is_some());
    if want == Want::Stopped || record.removing {
        return if running { Step::Stop } else { Step::Idle };
    }
    let policy = record.pod.restart_policy;
    let init_count = record.pod.init_containers.len();
    let mut next: Option<u64> = None;
    let mut pending = false;
    for (index, container) in record.containers.iter().enumerate() {
        let init = index < init_count;
        if init && succeeded(container) {
            continue;
        }
        match next_start(container, policy, init, boot_id) {
            Some(due) if due <= now_ms => return Step::Start(index),
            Some(due) => next = Some(next.map_or(due, |earlier: u64| earlier.min(due))),
            None => pending |= container.run.is_some(),
        }
        if init {
            // The rest of the pod waits for this one: while it runs, backs off, or has failed for good.
            break;
        }
    }
    match next {
        Some(due) => Step::WaitUntil(due),
        None if pending => Step::Wait,
        None => Step::Idle,
    }
}

/// When a container that does not run is due; `None` when it runs, or never again.
fn next_start(
    container: &ContainerRecord,
    policy: RestartPolicy,
    init: bool,
    boot_id: &str,
) -> Option<u64> {
    if container.run.is_some() || is_over(container, policy, init) {
        return None;
    }
    Some(if container.due_boot_id == boot_id { container.due_ms } else { 0 })
}

/// Whether a container has ended for good.
pub(crate) fn is_over(container: &ContainerRecord, policy: RestartPolicy, init: bool) -> bool {
    if container.run.is_some() {
        return false;
    }
    let Some(last) = container.history.last() else { return false };
    match policy {
        // An init container that has done its work is never run again.
        RestartPolicy::Always => init && last.exit_code == 0,
        RestartPolicy::OnFailure => last.exit_code == 0,
        RestartPolicy::Never => true,
    }
}

/// Whether the last run ended well.
pub(crate) fn succeeded(container: &ContainerRecord) -> bool {
    container.run.is_none() && container.history.last().is_some_and(|last| last.exit_code == 0)
}

/// A start is attempted: what the record has to say before anything of it exists.
pub(crate) fn begin(container: &mut ContainerRecord, id: String, boot_id: &str) {
    let attempt = container.attempts;
    container.run = Some(Run {
        id,
        attempt,
        boot_id: boot_id.to_owned(),
        phase: RunPhase::Creating,
        started_ms: 0,
        started_at: None,
    });
}

/// The first process exists and is watched.
pub(crate) fn started(
    container: &mut ContainerRecord,
    pid: i32,
    start_time: u64,
    now_ms: u64,
    now: Timestamp,
) {
    let Some(run) = &mut container.run else { return };
    run.phase = RunPhase::Started { pid, start_time };
    run.started_ms = now_ms;
    run.started_at = Some(now);
    container.attempts = run.attempt.saturating_add(1);
    container.trouble = None;
}

/// The start failed, or was given up: nothing of the run exists any more, and it does not count as one.
pub(crate) fn start_failed(
    container: &mut ContainerRecord,
    reason: &str,
    message: &str,
    boot_id: &str,
    now_ms: u64,
) {
    container.run = None;
    container.trouble = Some((reason.to_owned(), message.to_owned()));
    container.failures = container.failures.saturating_add(1);
    delay(container, container.failures, boot_id, now_ms);
}

/// An unfinished start was rolled back after a restart of the agent: no failure of the container.
pub(crate) fn rolled_back(container: &mut ContainerRecord) {
    container.run = None;
}

/// The run ended. `exit.id` and `exit.attempt` are those of the run; an exit that is recorded already changes nothing.
pub(crate) fn ended(container: &mut ContainerRecord, exit: ExitRecord, boot_id: &str, now_ms: u64) {
    let Some(run) = container.run.take_if(|run| run.id == exit.id) else { return };
    let lasted = now_ms.saturating_sub(run.started_ms);
    if run.boot_id != boot_id || lasted >= HEALTHY_MS {
        container.failures = 0;
    }
    container.failures = container.failures.saturating_add(1);
    // The first end is answered at once, as the kubelet does it; the delay begins with the second.
    delay(container, container.failures - 1, boot_id, now_ms);
    container.history.push(exit);
    let excess = container.history.len().saturating_sub(HISTORY_MAX);
    container.history.drain(..excess);
}

fn delay(container: &mut ContainerRecord, failures: u32, boot_id: &str, now_ms: u64) {
    container.due_ms = now_ms.saturating_add(backoff_ms(failures));
    boot_id.clone_into(&mut container.due_boot_id);
}

/// Delay after so many failures in a row: 0, 10 s, 20 s, 40 s, ... 5 min.
pub(crate) fn backoff_ms(failures: u32) -> u64 {
    match failures {
        0 => 0,
        n => BACKOFF_FIRST_MS.saturating_mul(1 << (n - 1).min(16)).min(BACKOFF_MAX_MS),
    }
}

#[cfg(test)]
mod tests;
