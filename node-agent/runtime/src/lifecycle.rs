//! When a container is started and stopped, and what its end means: a pure machine over the record. No I/O, no clock of its
//! own.
//!
//! It is level-triggered: [`plan`] looks at the record as it is and says what to do now, so it makes no difference whether
//! the agent was killed in between. Times are milliseconds since boot.
//!
//! The order is Kubernetes': init containers one after the other, sidecars among them as soon as they have started, then the
//! containers all at once. The end goes the other way: first the containers, then the sidecars, the last one first.

use jiff::{SignedDuration, Timestamp};

use crate::pod::{RestartPolicy, Role};
use crate::record::{ContainerRecord, PodRecord, Run, RunPhase, SIGTERM, Verdict};
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
    /// Stop everything that runs, in the order of [`next_to_stop`].
    Stop,
    /// Nothing runs and nothing is wanted to run.
    Idle,
}

/// What the pod needs next at `now_ms`. `is_busy`: something is under way for this container before it can be started, such
/// as the fetching of its image.
pub(crate) fn plan(
    record: &PodRecord,
    want: Want,
    boot_id: &str,
    now_ms: u64,
    is_busy: &dyn Fn(usize) -> bool,
) -> Step {
    let running = record.containers.iter().any(|c| c.run.is_some());
    if want == Want::Stopped || record.removing || is_finished(record) {
        return if running { Step::Stop } else { Step::Idle };
    }
    let policy = record.pod.restart_policy();
    let mut next: Option<u64> = None;
    let mut pending = false;
    let mut blocked = false;
    for (index, container) in record.containers.iter().enumerate() {
        let role = record.pod.role(index);
        if blocked && role == Role::Main {
            break;
        }
        let passed = has_passed(container, boot_id);
        if role == Role::Init && passed {
            continue;
        }
        match next_start(container, role, policy, boot_id) {
            Some(_) if is_busy(index) => pending = true,
            Some(due) if due <= now_ms => return Step::Start(index),
            Some(due) => next = Some(next.map_or(due, |earlier: u64| earlier.min(due))),
            None => pending |= container.run.is_some(),
        }
        if role != Role::Main && !passed {
            // The rest of the pod waits for this one: while it runs, starts, or backs off.
            blocked = true;
            break;
        }
    }
    match next {
        Some(due) => Step::WaitUntil(due),
        None if pending || blocked => Step::Wait,
        None => Step::Idle,
    }
}

/// Whether the pod has come to its end: nothing of it is ever started again.
pub(crate) fn is_finished(record: &PodRecord) -> bool {
    record.verdict.is_some() || has_failed_init(record) || mains_are_over(record)
}

/// Whether an init container has failed for good.
pub(crate) fn has_failed_init(record: &PodRecord) -> bool {
    let policy = record.pod.restart_policy();
    record.containers.iter().enumerate().any(|(index, container)| {
        let role = record.pod.role(index);
        role == Role::Init && is_over(container, role, policy) && !succeeded(container)
    })
}

/// Whether every container, init containers and sidecars aside, has ended for good.
pub(crate) fn mains_are_over(record: &PodRecord) -> bool {
    let policy = record.pod.restart_policy();
    let mut mains = mains(record).peekable();
    mains.peek().is_some() && mains.all(|container| is_over(container, Role::Main, policy))
}

/// The containers that are neither init containers nor sidecars.
pub(crate) fn mains(record: &PodRecord) -> impl Iterator<Item = &ContainerRecord> {
    let is_main = |(index, _): &(usize, &ContainerRecord)| record.pod.role(*index) == Role::Main;
    record.containers.iter().enumerate().filter(is_main).map(|(_, container)| container)
}

/// Whether the containers may start: every init container has ended well in this boot, every sidecar has started in it.
pub(crate) fn is_initialized(record: &PodRecord, boot_id: &str) -> bool {
    record.containers.iter().enumerate().all(|(index, container)| {
        record.pod.role(index) == Role::Main || has_passed(container, boot_id)
    })
}

fn has_passed(container: &ContainerRecord, boot_id: &str) -> bool {
    container.passed_boot_id == boot_id
}

/// Which of the running containers are to be told to stop now, when everything is to stop: all but the sidecars at once, and
/// when they are gone, the sidecars, the last one first.
pub(crate) fn next_to_stop(record: &PodRecord) -> Vec<usize> {
    let running: Vec<usize> = record
        .containers
        .iter()
        .enumerate()
        .filter(|(_, container)| container.run.is_some())
        .map(|(index, _)| index)
        .collect();
    let (sidecars, others): (Vec<_>, Vec<_>) =
        running.into_iter().partition(|index| record.pod.role(*index) == Role::Sidecar);
    if others.is_empty() { sidecars.last().copied().into_iter().collect() } else { others }
}

/// When a container that does not run is due; `None` when it runs, or never again.
fn next_start(
    container: &ContainerRecord,
    role: Role,
    policy: RestartPolicy,
    boot_id: &str,
) -> Option<u64> {
    if container.run.is_some() || (role != Role::Init && is_over(container, role, policy)) {
        return None;
    }
    Some(if container.due_boot_id == boot_id { container.due_ms } else { 0 })
}

/// Whether a container has ended for good. An init container that ended well is run again in the next boot: what it prepared
/// may have been in memory.
pub(crate) fn is_over(container: &ContainerRecord, role: Role, policy: RestartPolicy) -> bool {
    let Some(last) = container.history.last().filter(|_| container.run.is_none()) else {
        return false;
    };
    match (role, policy) {
        (Role::Sidecar, _) | (Role::Main, RestartPolicy::Always) => false,
        (Role::Init, RestartPolicy::Always) | (_, RestartPolicy::OnFailure) => last.exit_code == 0,
        (_, RestartPolicy::Never) => true,
    }
}

/// Whether the last run ended well.
pub(crate) fn succeeded(container: &ContainerRecord) -> bool {
    container.run.is_none() && container.history.last().is_some_and(|last| last.exit_code == 0)
}

/// How long the pod may still be active; `None` without a deadline.
pub(crate) fn time_left(record: &PodRecord, now: Timestamp) -> Option<SignedDuration> {
    let seconds = record.pod.spec.active_deadline_seconds?;
    let deadline = record.created_at.saturating_add(SignedDuration::from_secs(seconds.into()));
    Some(deadline.map_or(SignedDuration::MAX, |deadline| deadline.duration_since(now)))
}

/// The pod has failed as a whole; the first reason counts.
pub(crate) fn condemn(record: &mut PodRecord, reason: &str, message: String) -> bool {
    if is_finished(record) {
        return false;
    }
    record.verdict = Some(Verdict { reason: reason.to_owned(), message });
    true
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
        started: false,
        ready: false,
        image_id: String::new(),
        mounted_image_ids: Vec::new(),
        stop_signal: SIGTERM,
    });
}

/// The first process exists and is watched.
pub(crate) fn running(
    container: &mut ContainerRecord,
    (pid, start_time): (i32, u64),
    stop_signal: i32,
    now_ms: u64,
    now: Timestamp,
) {
    let Some(run) = &mut container.run else { return };
    run.phase = RunPhase::Started { pid, start_time };
    run.stop_signal = stop_signal;
    run.started_ms = now_ms;
    run.started_at = Some(now);
    container.attempts = run.attempt.saturating_add(1);
    container.trouble = None;
}

/// The container has started in Kubernetes' sense: its hook is done and its startup probe has passed.
pub(crate) fn has_started(container: &mut ContainerRecord, role: Role, boot_id: &str) {
    let Some(run) = &mut container.run else { return };
    run.started = true;
    if role == Role::Sidecar {
        boot_id.clone_into(&mut container.passed_boot_id);
    }
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
pub(crate) fn ended(
    container: &mut ContainerRecord,
    role: Role,
    exit: ExitRecord,
    boot_id: &str,
    now_ms: u64,
) {
    let Some(run) = container.run.take_if(|run| run.id == exit.id) else { return };
    let lasted = now_ms.saturating_sub(run.started_ms);
    if run.boot_id != boot_id || lasted >= HEALTHY_MS {
        container.failures = 0;
    }
    if role == Role::Init && exit.exit_code == 0 {
        run.boot_id.clone_into(&mut container.passed_boot_id);
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
