//! Random histories: whatever happens to the containers of a pod, its rules hold.

use ingot_machine_config::v1::pod::{Container, SidecarPolicy};
use proptest::prelude::*;

use super::*;
use crate::pod::Pod;

const BOOT: &str = "boot";

fn record(policy: RestartPolicy, roles: &[Role]) -> PodRecord {
    let mut pod = Pod::default();
    pod.spec.restart_policy = policy;
    for role in roles {
        let sidecar = (*role == Role::Sidecar).then_some(SidecarPolicy::Always);
        let container = Container { restart_policy: sidecar, ..Container::default() };
        match role {
            Role::Main => pod.spec.containers.push(container),
            Role::Init | Role::Sidecar => pod.spec.init_containers.push(container),
        }
    }
    PodRecord::new(pod)
}

fn exit(record: &ContainerRecord, exit_code: i32) -> ExitRecord {
    let run = record.run.as_ref().unwrap();
    ExitRecord {
        id: run.id.clone(),
        attempt: run.attempt,
        exit_code,
        signal: 0,
        reason: String::new(),
        message: String::new(),
        started_at: run.started_at,
        finished_at: Timestamp::UNIX_EPOCH,
    }
}

fn start_at(container: &mut ContainerRecord, now_ms: u64) {
    begin(container, format!("run at {now_ms}"), BOOT);
    running(container, (1, 1), SIGTERM, now_ms, Timestamp::UNIX_EPOCH);
}

fn end(container: &mut ContainerRecord, role: Role, now_ms: u64, exit_code: i32) {
    let exit = exit(container, exit_code);
    ended(container, role, exit, BOOT, now_ms);
}

fn run_once(container: &mut ContainerRecord, now_ms: u64, lasted_ms: u64, exit_code: i32) {
    start_at(container, now_ms);
    end(container, Role::Main, now_ms + lasted_ms, exit_code);
}

fn next(record: &PodRecord, now_ms: u64) -> Step {
    plan(record, Want::Run, BOOT, now_ms, &|_| false)
}

#[test]
fn the_first_restart_is_immediate_and_later_ones_wait_ever_longer() {
    let mut container = ContainerRecord::default();
    let mut now = 1000;
    let mut delays = Vec::new();
    for _ in 0..8 {
        run_once(&mut container, now, 1, 1);
        delays.push((container.due_ms - now - 1) / 1000);
        now = container.due_ms;
    }
    assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(container.attempts, 8);
}

#[test]
fn ten_healthy_minutes_clear_the_back_off() {
    let mut container = ContainerRecord::default();
    for _ in 0..5 {
        run_once(&mut container, 0, 1, 1);
    }
    run_once(&mut container, 1_000_000, HEALTHY_MS, 1);
    assert_eq!(container.due_ms, 1_000_000 + HEALTHY_MS);
}

#[test]
fn a_start_that_fails_waits_and_counts_no_run() {
    let mut container = ContainerRecord::default();
    begin(&mut container, "a".into(), BOOT);
    start_failed(&mut container, "ErrImagePull", "no such image", BOOT, 5);
    assert_eq!((container.attempts, container.due_ms), (0, 10_005));
    assert!(container.run.is_none() && container.history.is_empty());
}

#[test]
fn containers_wait_for_init_containers() {
    let mut record = record(RestartPolicy::Always, &[Role::Init, Role::Main]);
    assert_eq!(next(&record, 0), Step::Start(0));
    start_at(&mut record.containers[0], 0);
    assert_eq!(next(&record, 0), Step::Wait);
    end(&mut record.containers[0], Role::Init, 1, 1);
    assert_eq!(next(&record, 1), Step::Start(0));
    start_at(&mut record.containers[0], 1);
    end(&mut record.containers[0], Role::Init, 2, 0);
    assert_eq!(next(&record, 2), Step::Start(1));
}

#[test]
fn a_sidecar_lets_the_others_start_once_it_has_started_and_never_blocks_them_again() {
    let mut record = record(RestartPolicy::Always, &[Role::Sidecar, Role::Init, Role::Main]);
    assert_eq!(next(&record, 0), Step::Start(0));
    start_at(&mut record.containers[0], 0);
    assert_eq!(next(&record, 0), Step::Wait);
    has_started(&mut record.containers[0], Role::Sidecar, BOOT);
    assert_eq!(next(&record, 0), Step::Start(1));
    start_at(&mut record.containers[1], 0);
    end(&mut record.containers[0], Role::Sidecar, 1, 0);
    end(&mut record.containers[1], Role::Init, 1, 0);
    // Its second end in a row is delayed; the container starts nevertheless.
    assert_eq!(next(&record, 1), Step::Start(0));
    start_at(&mut record.containers[0], 1);
    end(&mut record.containers[0], Role::Sidecar, 2, 1);
    assert_eq!(next(&record, 2), Step::Start(2));
}

#[test]
fn sidecars_end_when_the_work_is_done_and_the_last_one_first() {
    let mut record =
        record(RestartPolicy::Never, &[Role::Sidecar, Role::Sidecar, Role::Main, Role::Main]);
    for container in &mut record.containers {
        start_at(container, 0);
    }
    assert_eq!(next_to_stop(&record), [2, 3]);
    end(&mut record.containers[2], Role::Main, 1, 0);
    assert_eq!(next_to_stop(&record), [3]);
    end(&mut record.containers[3], Role::Main, 1, 7);
    assert_eq!(next(&record, 1), Step::Stop);
    assert_eq!(next_to_stop(&record), [1]);
    end(&mut record.containers[1], Role::Sidecar, 2, 143);
    assert_eq!(next_to_stop(&record), [0]);
    end(&mut record.containers[0], Role::Sidecar, 2, 143);
    assert_eq!(next(&record, 2), Step::Idle);
}

#[test]
fn init_containers_run_again_in_the_next_boot() {
    let mut record = record(RestartPolicy::Always, &[Role::Init, Role::Main]);
    start_at(&mut record.containers[0], 0);
    end(&mut record.containers[0], Role::Init, 1, 0);
    assert_eq!(next(&record, 1), Step::Start(1));
    assert_eq!(plan(&record, Want::Run, "next boot", 1, &|_| false), Step::Start(0));
}

#[test]
fn what_is_done_is_not_done_again_in_the_next_boot() {
    let mut record = record(RestartPolicy::OnFailure, &[Role::Init, Role::Main]);
    start_at(&mut record.containers[0], 0);
    end(&mut record.containers[0], Role::Init, 1, 0);
    run_once(&mut record.containers[1], 1, 1, 0);
    assert_eq!(plan(&record, Want::Run, "next boot", 1, &|_| false), Step::Idle);
}

#[test]
fn a_failed_init_container_of_a_pod_that_never_restarts_is_the_end() {
    let mut record = record(RestartPolicy::Never, &[Role::Init, Role::Main]);
    start_at(&mut record.containers[0], 0);
    end(&mut record.containers[0], Role::Init, 1, 1);
    assert_eq!(next(&record, 100), Step::Idle);
    assert!(has_failed_init(&record));
}

#[test]
fn an_exit_is_recorded_once_however_often_it_is_told() {
    let mut container = ContainerRecord::default();
    start_at(&mut container, 0);
    let exit = exit(&container, 3);
    ended(&mut container, Role::Main, exit.clone(), BOOT, 10);
    let once = container.clone();
    ended(&mut container, Role::Main, exit, BOOT, 20);
    assert_eq!(container, once);
}

#[test]
fn a_delay_of_another_boot_is_void() {
    let mut record = record(RestartPolicy::Always, &[Role::Main]);
    run_once(&mut record.containers[0], 0, 1, 1);
    run_once(&mut record.containers[0], 5, 1, 1);
    assert_eq!(next(&record, 6), Step::WaitUntil(10_006));
    assert_eq!(plan(&record, Want::Run, "next boot", 6, &|_| false), Step::Start(0));
}

#[test]
fn a_container_whose_image_is_fetched_does_not_hold_up_the_others() {
    let record = record(RestartPolicy::Always, &[Role::Main, Role::Main]);
    assert_eq!(plan(&record, Want::Run, BOOT, 0, &|index| index == 0), Step::Start(1));
    assert_eq!(plan(&record, Want::Run, BOOT, 0, &|_| true), Step::Wait);
}

#[test]
fn a_pod_that_has_failed_as_a_whole_is_stopped_and_stays_so() {
    let mut record = record(RestartPolicy::Always, &[Role::Main]);
    start_at(&mut record.containers[0], 0);
    assert!(condemn(&mut record, "Evicted", "too much".into()));
    assert!(!condemn(&mut record, "DeadlineExceeded", "too long".into()));
    assert_eq!(next(&record, 0), Step::Stop);
    end(&mut record.containers[0], Role::Main, 1, 137);
    assert_eq!(next(&record, 1_000_000), Step::Idle);
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Exit(i32),
    StartFails,
    Started,
    AgentDies,
    TimePasses(u64),
    Stop,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (0..3).prop_map(Happens::Exit),
        1 => Just(Happens::StartFails),
        4 => Just(Happens::Started),
        1 => Just(Happens::AgentDies),
        2 => (0_u64..400_000).prop_map(Happens::TimePasses),
        1 => Just(Happens::Stop),
    ]
}

fn policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Never)
    ]
}

fn roles() -> impl Strategy<Value = Vec<Role>> {
    let before =
        proptest::collection::vec(prop_oneof![Just(Role::Init), Just(Role::Sidecar)], 0..4);
    (before, 1_usize..4).prop_map(|(mut roles, mains)| {
        roles.extend(vec![Role::Main; mains]);
        roles
    })
}

/// What must be true of any start.
fn check_start(record: &PodRecord, index: usize, now: u64) -> Result<(), TestCaseError> {
    let policy = record.pod.restart_policy();
    let (container, role) = (&record.containers[index], record.pod.role(index));
    prop_assert!(container.run.is_none(), "started what runs");
    prop_assert!(container.due_ms <= now, "started too early");
    prop_assert!(!is_finished(record), "started something of a pod that is over");
    if let Some(last) = container.history.last().filter(|_| role != Role::Sidecar) {
        prop_assert!(policy != RestartPolicy::Never, "restarted under Never");
        prop_assert!(policy != RestartPolicy::OnFailure || last.exit_code != 0);
        prop_assert!(role != Role::Init || last.exit_code != 0, "ran an init container twice");
    }
    for (earlier, container) in record.containers[..index].iter().enumerate() {
        if record.pod.role(earlier) != Role::Main {
            prop_assert!(container.passed_boot_id == BOOT, "{index} did not wait for {earlier}");
        }
    }
    Ok(())
}

/// What must be true of any stop of everything.
fn check_stop(record: &PodRecord) -> Result<(), TestCaseError> {
    let chosen = next_to_stop(record);
    let runs = |index: &usize| record.containers[*index].run.is_some();
    prop_assert!(chosen.iter().all(runs));
    prop_assert!(!chosen.is_empty() || record.containers.iter().all(|c| c.run.is_none()));
    for index in &chosen {
        if record.pod.role(*index) == Role::Sidecar {
            let later = index + 1..record.containers.len();
            prop_assert!(!later.clone().any(|later| runs(&later)), "a sidecar before {later:?}");
            prop_assert_eq!(chosen.len(), 1);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn order_and_restart_policy_hold_whatever_happens(
        policy in policy(),
        roles in roles(),
        script in proptest::collection::vec((happens(), any::<u8>()), 1..80),
    ) {
        let mut record = record(policy, &roles);
        let mut now = 0;
        for (number, (happens, which)) in script.into_iter().enumerate() {
            // Carry out what is planned until there is nothing to do.
            for _ in 0..32 {
                let Step::Start(index) = next(&record, now) else { break };
                check_start(&record, index, now)?;
                let container = &mut record.containers[index];
                begin(container, format!("{number}.{index}.{now}"), BOOT);
                if matches!(happens, Happens::StartFails) {
                    start_failed(container, "StartError", "", BOOT, now);
                } else {
                    running(container, (1, 1), SIGTERM, now, Timestamp::UNIX_EPOCH);
                }
            }
            let index = usize::from(which) % record.containers.len();
            let role = record.pod.role(index);
            match happens {
                Happens::Exit(code) if record.containers[index].run.is_some() => {
                    let container = &mut record.containers[index];
                    let before = container.history.len().min(HISTORY_MAX - 1);
                    end(container, role, now, code);
                    prop_assert_eq!(container.history.len(), before + 1);
                }
                Happens::Started => has_started(&mut record.containers[index], role, BOOT),
                Happens::AgentDies => {
                    let text = serde_json::to_string(&record).unwrap();
                    let reread: PodRecord = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(&reread, &record);
                    record = reread;
                }
                Happens::TimePasses(ms) => now += ms,
                Happens::Exit(_) | Happens::StartFails => {}
                Happens::Stop => check_stop(&record)?,
            }
            for container in &record.containers {
                prop_assert!(container.due_ms <= now + BACKOFF_MAX_MS);
                prop_assert!(container.history.len() <= HISTORY_MAX);
            }
        }
        let some_run = record.containers.iter().any(|c| c.run.is_some());
        let stopping = plan(&record, Want::Stopped, BOOT, now, &|_| false);
        prop_assert_eq!(stopping, if some_run { Step::Stop } else { Step::Idle });
        // Told to stop, everything ends in a bounded number of rounds.
        for _ in 0..roles.len() {
            check_stop(&record)?;
            for index in next_to_stop(&record) {
                let role = record.pod.role(index);
                end(&mut record.containers[index], role, now, 143);
            }
        }
        prop_assert!(record.containers.iter().all(|c| c.run.is_none()));
    }
}
