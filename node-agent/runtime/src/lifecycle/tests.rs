//! Random histories: whatever happens to a container, the rules of its restart policy hold.

use proptest::prelude::*;

use super::*;
use crate::pod::{Container, Pod};

const BOOT: &str = "boot";

fn record(policy: RestartPolicy, init: usize, main: usize) -> PodRecord {
    PodRecord::new(Pod {
        restart_policy: policy,
        init_containers: vec![Container::default(); init],
        containers: vec![Container::default(); main],
        ..Pod::default()
    })
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

fn run_once(container: &mut ContainerRecord, now_ms: u64, lasted_ms: u64, exit_code: i32) {
    begin(container, format!("run at {now_ms}"), BOOT);
    started(container, 1, 1, now_ms, Timestamp::UNIX_EPOCH);
    let exit = exit(container, exit_code);
    ended(container, exit, BOOT, now_ms + lasted_ms);
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
    start_failed(&mut container, "ImageNotBundled", "no such image", BOOT, 5);
    assert_eq!((container.attempts, container.due_ms), (0, 10_005));
    assert!(container.run.is_none() && container.history.is_empty());
}

#[test]
fn containers_wait_for_init_containers() {
    let mut record = record(RestartPolicy::Always, 1, 1);
    assert_eq!(plan(&record, Want::Run, BOOT, 0), Step::Start(0));
    begin(&mut record.containers[0], "init".into(), BOOT);
    assert_eq!(plan(&record, Want::Run, BOOT, 0), Step::Wait);
    record.containers[0].run = None;
    run_once(&mut record.containers[0], 0, 1, 1);
    assert_eq!(plan(&record, Want::Run, BOOT, 1), Step::Start(0));
    run_once(&mut record.containers[0], 1, 1, 0);
    assert_eq!(plan(&record, Want::Run, BOOT, 2), Step::Start(1));
}

#[test]
fn a_failed_init_container_of_a_pod_that_never_restarts_is_the_end() {
    let mut record = record(RestartPolicy::Never, 1, 1);
    run_once(&mut record.containers[0], 0, 1, 1);
    assert_eq!(plan(&record, Want::Run, BOOT, 100), Step::Idle);
}

#[test]
fn an_exit_is_recorded_once_however_often_it_is_told() {
    let mut container = ContainerRecord::default();
    begin(&mut container, "a".into(), BOOT);
    started(&mut container, 1, 1, 0, Timestamp::UNIX_EPOCH);
    let exit = exit(&container, 3);
    ended(&mut container, exit.clone(), BOOT, 10);
    let once = container.clone();
    ended(&mut container, exit, BOOT, 20);
    assert_eq!(container, once);
}

#[test]
fn a_delay_of_another_boot_is_void() {
    let mut record = record(RestartPolicy::Always, 0, 1);
    run_once(&mut record.containers[0], 0, 1, 1);
    run_once(&mut record.containers[0], 5, 1, 1);
    assert_eq!(plan(&record, Want::Run, BOOT, 6), Step::WaitUntil(10_006));
    assert_eq!(plan(&record, Want::Run, "next boot", 6), Step::Start(0));
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Exit(i32),
    StartFails,
    AgentDies,
    TimePasses(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0..3).prop_map(Happens::Exit),
        Just(Happens::StartFails),
        Just(Happens::AgentDies),
        (0_u64..400_000).prop_map(Happens::TimePasses),
    ]
}

fn policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Never)
    ]
}

proptest! {
    #[test]
    fn the_restart_policy_holds_whatever_happens(
        policy in policy(),
        init in 0_usize..3,
        main in 1_usize..4,
        script in proptest::collection::vec((happens(), any::<u8>()), 1..60),
    ) {
        let mut record = record(policy, init, main);
        let mut now = 0;
        for (number, (happens, which)) in script.into_iter().enumerate() {
            // Carry out what is planned until there is nothing to do; each start succeeds here.
            for _ in 0..32 {
                let Step::Start(index) = plan(&record, Want::Run, BOOT, now) else { break };
                let container = &mut record.containers[index];
                prop_assert!(container.run.is_none(), "started what runs");
                prop_assert!(container.due_ms <= now, "started too early");
                if let Some(last) = container.history.last() {
                    prop_assert!(policy != RestartPolicy::Never, "restarted under Never");
                    prop_assert!(policy != RestartPolicy::OnFailure || last.exit_code != 0);
                }
                begin(container, format!("{number}.{index}.{now}"), BOOT);
                if matches!(happens, Happens::StartFails) {
                    start_failed(container, "StartError", "", BOOT, now);
                } else {
                    started(container, 1, 1, now, Timestamp::UNIX_EPOCH);
                }
                let running_init = record.containers[..init].iter().any(|c| c.run.is_some());
                let running_main = record.containers[init..].iter().any(|c| c.run.is_some());
                prop_assert!(!(running_init && running_main), "did not wait for init containers");
            }
            match happens {
                Happens::Exit(code) => {
                    let index = usize::from(which) % record.containers.len();
                    let container = &mut record.containers[index];
                    if container.run.is_some() {
                        let before = container.history.len().min(HISTORY_MAX - 1);
                        let exit = exit(container, code);
                        ended(container, exit, BOOT, now);
                        prop_assert_eq!(container.history.len(), before + 1);
                    }
                }
                Happens::AgentDies => {
                    let text = serde_json::to_string(&record).unwrap();
                    let reread: PodRecord = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(&reread, &record);
                    record = reread;
                }
                Happens::TimePasses(ms) => now += ms,
                Happens::StartFails => {}
            }
            for container in &record.containers {
                prop_assert!(container.due_ms <= now + BACKOFF_MAX_MS);
                prop_assert!(container.history.len() <= HISTORY_MAX);
            }
        }
        if record.containers.iter().any(|c| c.run.is_some()) {
            prop_assert_eq!(plan(&record, Want::Stopped, BOOT, now), Step::Stop);
        } else {
            prop_assert_eq!(plan(&record, Want::Stopped, BOOT, now), Step::Idle);
        }
    }
}
