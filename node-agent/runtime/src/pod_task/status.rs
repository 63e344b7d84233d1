//! From a pod's record to what the API shows. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::lifecycle;
use crate::pod::Container;
use crate::record::{ContainerRecord, PodRecord, RunPhase};
use crate::status::{ContainerState, ContainerStatus, Phase, PodStatus};

/// Reason of a container that is being made.
const CREATING: &str = "ContainerCreating";

/// The status of the pod of `record`.
pub(super) fn of(record: &PodRecord, generation: u64, boot_id: &str) -> PodStatus {
    let pod = &record.pod;
    let containers: Vec<ContainerStatus> = pod
        .all_containers()
        .zip(&record.containers)
        .map(|((spec, init), state)| container(record, spec, init, state, boot_id))
        .collect();
    let phase = phase(record);
    // That a container is being made is no reason to worry.
    let waiting =
        containers.iter().find(|c| c.state == ContainerState::Waiting && c.reason != CREATING);
    let (reason, message) = match (phase, waiting) {
        _ if record.removing => ("Terminating".to_owned(), String::new()),
        (Phase::Pending | Phase::Running, Some(waiting)) => {
            (waiting.reason.clone(), waiting.message.clone())
        }
        _ => Default::default(),
    };
    let sandbox = record.sandbox.as_ref().filter(|s| s.ready && s.boot_id == boot_id);
    PodStatus {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        phase,
        reason,
        message,
        ips: sandbox.map(|s| s.ips.clone()).unwrap_or_default(),
        host_network: pod.host_network,
        started_at: containers.iter().filter_map(|c| c.started_at).min(),
        containers,
        source: pod.source,
        generation,
    }
}

fn phase(record: &PodRecord) -> Phase {
    let policy = record.pod.restart_policy;
    let init_count = record.pod.init_containers.len();
    let (init, main) = record.containers.split_at(init_count.min(record.containers.len()));
    let failed_init =
        |c: &ContainerRecord| lifecycle::is_over(c, policy, true) && !lifecycle::succeeded(c);
    if init.iter().any(failed_init) {
        return Phase::Failed;
    }
    if main.iter().all(|c| lifecycle::is_over(c, policy, false)) && !main.is_empty() {
        let all_well = main.iter().all(lifecycle::succeeded);
        return if all_well { Phase::Succeeded } else { Phase::Failed };
    }
    let begun = |c: &ContainerRecord| {
        let running = |r: &crate::record::Run| matches!(r.phase, RunPhase::Started { .. });
        c.run.as_ref().is_some_and(running) || !c.history.is_empty()
    };
    if main.iter().all(begun) { Phase::Running } else { Phase::Pending }
}

fn container(
    record: &PodRecord,
    spec: &Container,
    init: bool,
    container: &ContainerRecord,
    boot_id: &str,
) -> ContainerStatus {
    let last = container.history.last();
    let run = container.run.as_ref();
    let pid = run.map_or(0, |run| match run.phase {
        RunPhase::Started { pid, .. } => pid,
        RunPhase::Creating => 0,
    });
    let over = lifecycle::is_over(container, record.pod.restart_policy, init);
    let state = match (pid, over) {
        (1.., _) => ContainerState::Running,
        (_, true) => ContainerState::Terminated,
        _ => ContainerState::Waiting,
    };
    let delayed = container.due_boot_id == boot_id && container.failures > 1;
    let (reason, message) = match state {
        ContainerState::Running => Default::default(),
        ContainerState::Terminated => {
            last.map(|l| (l.reason.clone(), l.message.clone())).unwrap_or_default()
        }
        ContainerState::Waiting => match (&container.trouble, last) {
            (Some((reason, message)), _) => (reason.clone(), message.clone()),
            (None, Some(last)) if delayed && run.is_none() => (
                "CrashLoopBackOff".to_owned(),
                format!(
                    "ended {} times in a row, last with {}",
                    container.failures, last.exit_code
                ),
            ),
            _ => (CREATING.to_owned(), String::new()),
        },
    };
    let id = run.map(|run| run.id.clone()).or_else(|| last.map(|l| l.id.clone()));
    let waiting = state == ContainerState::Waiting && run.is_none();
    ContainerStatus {
        name: spec.name.clone(),
        init,
        image: spec.image.clone(),
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

/// The wall-clock time of a time since boot, to the second, so that the same due time looks the same each time.
fn time_of(due_ms: u64) -> Timestamp {
    let since_boot = ingot_linux::clock::since_boot();
    let due = i64::try_from(due_ms).unwrap_or(i64::MAX);
    let now = i64::try_from(since_boot.as_millis()).unwrap_or(i64::MAX);
    let at = Timestamp::now().saturating_add(SignedDuration::from_millis(due.saturating_sub(now)));
    let seconds = at.map_or(0, |at| at.as_millisecond().saturating_add(500).div_euclid(1000));
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
