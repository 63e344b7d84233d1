//! What people are told of a pod.

use super::*;
use crate::pod_task::tests::pod;
use crate::record::SIGTERM;
use crate::status::ExitRecord;

const BOOT: &str = "boot";

fn record() -> PodRecord {
    PodRecord::new(pod(
        "  initContainers: [{name: prepare, image: a}, {name: beside, image: a, restartPolicy: Always}]\n  containers: [{name: main, image: a}]",
    ))
}

fn start(record: &mut PodRecord, index: usize) {
    let container = &mut record.containers[index];
    lifecycle::begin(container, format!("id{index}"), BOOT);
    lifecycle::running(container, (7, 1), SIGTERM, 0, Timestamp::UNIX_EPOCH);
}

fn has_started(record: &mut PodRecord, index: usize) {
    let role = record.pod.role(index);
    lifecycle::has_started(&mut record.containers[index], role, BOOT);
    record.containers[index].run.as_mut().unwrap().ready = true;
}

fn end(record: &mut PodRecord, index: usize, exit_code: i32) {
    let exit = ExitRecord {
        id: format!("id{index}"),
        attempt: 0,
        exit_code,
        signal: 0,
        reason: if exit_code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
        started_at: None,
        finished_at: Timestamp::UNIX_EPOCH,
    };
    let role = record.pod.role(index);
    lifecycle::ended(&mut record.containers[index], role, exit, BOOT, 0);
}

fn status(record: &PodRecord) -> PodStatus {
    let pod = Arc::new(record.pod.clone());
    let seen =
        Seen { pod: &pod, generation: 1, boot_id: BOOT, before: &[], now: Timestamp::UNIX_EPOCH };
    of(record, &seen)
}

/// Phase, reason, each condition that is true, and each container with its state.
fn summary(record: &PodRecord) -> String {
    let status = status(record);
    let conditions: Vec<_> =
        status.conditions.iter().filter(|c| c.is_true).map(|c| c.name).collect();
    let containers: Vec<_> = status
        .containers
        .iter()
        .map(|c| {
            format!(
                "{} {:?}{}{}",
                c.name,
                c.state,
                if c.ready { " ready" } else { "" },
                if c.reason.is_empty() { String::new() } else { format!(" {}", c.reason) }
            )
        })
        .collect();
    format!(
        "{} {:?} [{}] {}",
        status.phase.as_str(),
        status.reason,
        conditions.join(" "),
        containers.join(", ")
    )
}

#[test]
fn a_pod_is_told_from_its_first_to_its_last_moment() {
    let mut record = record();
    let mut told = vec![summary(&record)];
    start(&mut record, 0);
    end(&mut record, 0, 0);
    start(&mut record, 1);
    told.push(summary(&record));
    has_started(&mut record, 1);
    start(&mut record, 2);
    told.push(summary(&record));
    has_started(&mut record, 2);
    told.push(summary(&record));
    end(&mut record, 2, 3);
    told.push(summary(&record));
    start(&mut record, 2);
    end(&mut record, 2, 3);
    told.push(summary(&record));
    record.removing = true;
    told.push(summary(&record));
    expect_test::expect![[r#"
        Pending "" [PodScheduled] prepare Waiting ContainerCreating, beside Waiting ContainerCreating, main Waiting PodInitializing
        Pending "" [PodScheduled] prepare Terminated ready Completed, beside Running, main Waiting PodInitializing
        Running "" [PodScheduled Initialized] prepare Terminated ready Completed, beside Running ready, main Running
        Running "" [PodScheduled Initialized ContainersReady Ready] prepare Terminated ready Completed, beside Running ready, main Running ready
        Running "" [PodScheduled Initialized] prepare Terminated ready Completed, beside Running ready, main Waiting ContainerCreating
        Running "CrashLoopBackOff" [PodScheduled Initialized] prepare Terminated ready Completed, beside Running ready, main Waiting CrashLoopBackOff
        Running "Terminating" [PodScheduled Initialized] prepare Terminated ready Completed, beside Running ready, main Waiting CrashLoopBackOff"#]].assert_eq(&told.join("\n"));
}

#[test]
fn an_evicted_pod_has_failed_and_says_why() {
    let mut record = record();
    start(&mut record, 0);
    end(&mut record, 0, 0);
    lifecycle::condemn(&mut record, "Evicted", "too much".into());
    expect_test::expect![[r#"Failed "Evicted" [PodScheduled] prepare Terminated ready Completed, beside Waiting ContainerCreating, main Waiting PodInitializing"#]].assert_eq(&summary(&record));
    assert_eq!(status(&record).message, "too much");
}

#[test]
fn a_condition_keeps_the_time_of_its_last_change() {
    let record = record();
    let pod = Arc::new(record.pod.clone());
    let at = |before: &[Condition], seconds| {
        let now = Timestamp::from_second(seconds).unwrap();
        of(&record, &Seen { pod: &pod, generation: 1, boot_id: BOOT, before, now }).conditions
    };
    let first = at(&[], 10);
    assert_eq!(at(&first, 20), first);
}

#[test]
fn an_image_that_cannot_be_had_is_told_as_the_kubelet_tells_it() {
    let mut record = record();
    for expected in ["ErrImagePull", "ImagePullBackOff"] {
        lifecycle::start_failed(&mut record.containers[0], "ErrImagePull", "no such host", BOOT, 0);
        assert_eq!(status(&record).reason, expected);
    }
}
