//! From a pod's record to what the API shows. Pure, but for the clock.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::lifecycle;
use crate::pod::{Pod, Role};
use crate::record::{ContainerRecord, PodRecord, RunPhase};
use crate::status::{Condition, ContainerState, ContainerStatus, Phase, PodStatus};

/// Reason of a container that is being made.
const CREATING: &str = "ContainerCreating";

/// Reason of a container that waits for the init containers.
const INITIALIZING: &str = "PodInitializing";

/// What a status is made of besides the record.
pub(super) struct Seen<'a> {
    pub(super) pod: &'a Arc<Pod>,
    pub(super) generation: u64,
    pub(super) boot_id: &'a str,
    /// The conditions that were shown before, for the times of their changes.
    pub(super) before: &'a [Condition],
    pub(super) now: Timestamp,
}

/// The status of the pod of `record`.
pub(super) fn of(record: &PodRecord, seen: &Seen<'_>) -> PodStatus {
    let boot_id = seen.boot_id;
    let pod = &record.pod;
    let initialized = lifecycle::is_initialized(record, boot_id);
    let containers: Vec<ContainerStatus> = pod
        .all_containers()
        .zip(&record.containers)
        .enumerate()
        .map(|(index, (spec, state))| {
            let place = Place { name: &spec.name, image: &spec.image, role: pod.role(index) };
            container(record, &place, state, boot_id, initialized)
        })
        .collect();
    let phase = phase(record);
    let (reason, message) = reason(record, phase, &containers);
    let sandbox = record.sandbox.as_ref().filter(|s| s.ready && s.boot_id == boot_id);
    PodStatus {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        phase,
        reason,
        message,
        ips: sandbox.map(|s| s.ips.clone()).unwrap_or_default(),
        host_network: pod.spec.host_network,
        started_at: containers.iter().filter_map(|c| c.started_at).min(),
        conditions: conditions(record, &containers, phase, initialized, seen),
        containers,
        source: pod.source,
        generation: seen.generation,
        pod: seen.pod.clone(),
        created_at: record.created_at,
        qos_class: pod.qos_class(),
    }
}

/// Why the pod is not as wished, in a word and a sentence.
fn reason(record: &PodRecord, phase: Phase, containers: &[ContainerStatus]) -> (String, String) {
    // That a container is being made is no reason to worry.
    let worry = |c: &&ContainerStatus| {
        c.state == ContainerState::Waiting && c.reason != CREATING && c.reason != INITIALIZING
    };
    match (phase, containers.iter().find(worry)) {
        _ if record.removing => ("Terminating".to_owned(), String::new()),
        _ if record.verdict.is_some() => {
            let verdict = record.verdict.as_ref();
            verdict.map(|v| (v.reason.clone(), v.message.clone())).unwrap_or_default()
        }
        (Phase::Pending | Phase::Running, Some(waiting)) => {
            (waiting.reason.clone(), waiting.message.clone())
        }
        _ => Default::default(),
    }
}

fn phase(record: &PodRecord) -> Phase {
    if record.verdict.is_some() || lifecycle::has_failed_init(record) {
        return Phase::Failed;
    }
    if lifecycle::mains_are_over(record) {
        let all_well = lifecycle::mains(record).all(lifecycle::succeeded);
        return if all_well { Phase::Succeeded } else { Phase::Failed };
    }
    let begun = |c: &ContainerRecord| {
        let running = |r: &crate::record::Run| matches!(r.phase, RunPhase::Started { .. });
        c.run.as_ref().is_some_and(running) || !c.history.is_empty()
    };
    if lifecycle::mains(record).all(begun) { Phase::Running } else { Phase::Pending }
}

/// The conditions that the kubelet sets.
fn conditions(
    record: &PodRecord,
    containers: &[ContainerStatus],
    phase: Phase,
    initialized: bool,
    seen: &Seen<'_>,
) -> Vec<Condition> {
    let names =
        |unready: Vec<&str>| format!("containers with unready status: [{}]", unready.join(" "));
    let unready: Vec<&str> = containers
        .iter()
        .filter(|c| c.role != Role::Init && !c.ready)
        .map(|c| c.name.as_str())
        .collect();
    let incomplete: Vec<&str> = containers
        .iter()
        .filter(|c| c.role != Role::Main && !c.ready && !c.started)
        .map(|c| c.name.as_str())
        .collect();
    let ready = match phase {
        Phase::Succeeded => Err(("PodCompleted", String::new())),
        Phase::Failed => Err(("PodFailed", String::new())),
        _ if unready.is_empty() && initialized => Ok(()),
        _ => Err(("ContainersNotReady", names(unready))),
    };
    let initialized = if initialized || matches!(phase, Phase::Succeeded) {
        Ok(())
    } else {
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        Err(("ContainersNotInitialized", message))
    };
    let own = if record.removing { Err(("Terminating", String::new())) } else { ready.clone() };
    let all = [
        ("PodScheduled", Ok(())),
        ("Initialized", initialized),
        ("ContainersReady", ready),
        ("Ready", own),
    ];
    all.into_iter()
        .map(|(name, state)| {
            let is_true = state.is_ok();
            let (reason, message) = state.err().unwrap_or_default();
            let before = seen.before.iter().find(|c| c.name == name && c.is_true == is_true);
            let since = before.map_or(seen.now, |c| c.since);
            Condition { name, is_true, reason: reason.to_owned(), message, since }
        })
        .collect()
}

/// Which container.
struct Place<'a> {
    name: &'a str,
    image: &'a str,
    role: Role,
}

fn container(
    record: &PodRecord,
    place: &Place<'_>,
    container: &ContainerRecord,
    boot_id: &str,
    initialized: bool,
) -> ContainerStatus {
    let last = container.history.last();
    let run = container.run.as_ref();
    let pid = run.map_or(0, |run| match run.phase {
        RunPhase::Started { pid, .. } => pid,
        RunPhase::Creating => 0,
    });
    let role = place.role;
    let over = lifecycle::is_over(container, role, record.pod.restart_policy())
        || (last.is_some() && run.is_none() && lifecycle::is_finished(record));
    let state = match (pid, over) {
        (1.., _) => ContainerState::Running,
        (_, true) => ContainerState::Terminated,
        _ => ContainerState::Waiting,
    };
    let (reason, message) = match state {
        ContainerState::Running => Default::default(),
        ContainerState::Terminated => {
            last.map(|l| (l.reason.clone(), l.message.clone())).unwrap_or_default()
        }
        ContainerState::Waiting => why_waiting(container, role, boot_id, initialized),
    };
    let started = pid > 0 && run.is_some_and(|run| run.started);
    let id = run.map(|run| run.id.clone()).or_else(|| last.map(|l| l.id.clone()));
    let waiting = state == ContainerState::Waiting && run.is_none();
    ContainerStatus {
        name: place.name.to_owned(),
        role,
        started,
        ready: match role {
            Role::Init => container.passed_boot_id == boot_id,
            Role::Sidecar | Role::Main => started && run.is_some_and(|run| run.ready),
        },
        image_id: run.map(|run| run.image_id.clone()).unwrap_or_default(),
        image: place.image.to_owned(),
        state,
        reason,
        message,
        restarts: container.attempts.saturating_sub(1),
        pid,
        started_at: run.and_then(|r| r.started_at).or_else(|| last.and_then(|l| l.started_at)),
        finished_at: last.map(|l| l.finished_at),
        exit_code: last.map_or(0, |l| l.exit_code),
        signal: last.map_or(0, |l| l.signal),
        next_start_at: (waiting && container.due_boot_id == boot_id)
            .then(|| time_of(container.due_ms)),
        cgroup: match (run, &id) {
            (Some(_), Some(id)) => format!("pods/{}/{id}", record.pod.uid),
            _ => String::new(),
        },
        id: id.unwrap_or_default(),
        history: container.history.clone(),
    }
}

fn why_waiting(
    container: &ContainerRecord,
    role: Role,
    boot_id: &str,
    initialized: bool,
) -> (String, String) {
    let delayed = container.due_boot_id == boot_id && container.failures > 1;
    match (&container.trouble, container.history.last()) {
        // As the kubelet says it, from the second time on.
        (Some((reason, message)), _) if reason == "ErrImagePull" && delayed => {
            ("ImagePullBackOff".to_owned(), message.clone())
        }
        (Some((reason, message)), _) => (reason.clone(), message.clone()),
        (None, Some(last)) if delayed && container.run.is_none() => (
            "CrashLoopBackOff".to_owned(),
            format!("ended {} times in a row, last with {}", container.failures, last.exit_code),
        ),
        _ if role == Role::Main && !initialized => (INITIALIZING.to_owned(), String::new()),
        _ => (CREATING.to_owned(), String::new()),
    }
}

/// The wall-clock time of a time since boot, to the second, so that the same due time looks the same each time.
fn time_of(due_ms: u64) -> Timestamp {
    let since_boot = ingot_linux::clock::since_boot();
    let due = i64::try_from(due_ms).unwrap_or(i64::MAX);
    let now = i64::try_from(since_boot.as_millis()).unwrap_or(i64::MAX);
    let at = Timestamp::now().saturating_add(SignedDuration::from_millis(due.saturating_sub(now)));
    let seconds = at.map_or(0, |at| at.as_millisecond().saturating_add(500).div_euclid(1000));
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
