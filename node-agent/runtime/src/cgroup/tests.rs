//! The table from quotas to cgroup files.

use super::*;
use crate::pod::Container;
use proptest::prelude::*;

#[test]
fn cpu_limits_become_microseconds_in_a_tenth_of_a_second() {
    for (millis, expected) in [
        (1, "1000 100000"),
        (10, "1000 100000"),
        (250, "25000 100000"),
        (1000, "100000 100000"),
        (1500, "150000 100000"),
        (64_000, "6400000 100000"),
    ] {
        assert_eq!(cpu_max(millis), expected, "{millis}m");
    }
}

#[test]
fn cpu_requests_become_the_weights_of_the_kubelet() {
    for (millis, expected) in
        [(0, 1), (2, 1), (100, 4), (250, 10), (500, 20), (1000, 39), (2000, 79), (256_000, 10_000)]
    {
        assert_eq!(cpu_weight(millis), expected, "{millis}m");
    }
}

#[test]
fn a_container_with_all_quotas_gets_all_files() {
    let resources = Resources {
        cpu_limit_millis: Some(250),
        cpu_request_millis: Some(100),
        memory_limit_bytes: Some(64 << 20),
        memory_request_bytes: Some(32 << 20),
    };
    let text = |settings: Settings| {
        settings
            .iter()
            .map(|(file, value)| format!("{file}={value}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    expect_test::expect![[r"
        cpu.max=25000 100000
        cpu.weight=4
        memory.max=67108864
        memory.swap.max=0
        memory.low=33554432
        memory.oom.group=1
        pids.max=64"]]
    .assert_eq(&text(container_settings(&resources, Some(64))));
    expect_test::expect![[r"
        cpu.weight=1
        memory.oom.group=1"]]
    .assert_eq(&text(container_settings(&Resources::default(), None)));
}

fn pod(memory: &[Option<u64>]) -> Pod {
    let container = |memory: &Option<u64>| Container {
        resources: Resources { memory_limit_bytes: *memory, ..Resources::default() },
        ..Container::default()
    };
    Pod { containers: memory.iter().map(container).collect(), ..Pod::default() }
}

fn memory_max(pod: &Pod) -> Option<String> {
    pod_settings(pod).into_iter().find(|(file, _)| *file == "memory.max").map(|(_, value)| value)
}

#[test]
fn a_pod_is_limited_to_the_sum_only_when_every_container_is_limited() {
    assert_eq!(memory_max(&pod(&[Some(10), Some(20)])), Some("30".to_owned()));
    assert_eq!(memory_max(&pod(&[Some(10), None])), None);
}

#[test]
fn a_pod_has_room_for_its_largest_init_container() {
    let mut larger = pod(&[Some(10)]);
    larger.init_containers = pod(&[Some(50)]).containers;
    assert_eq!(memory_max(&larger), Some("50".to_owned()));
    larger.init_containers = pod(&[None]).containers;
    assert_eq!(memory_max(&larger), None);
}

#[test]
fn numbers_are_found_by_their_whole_key() {
    let text = "low 0\nhigh 0\nmax 71\noom 2\noom_kill 3\noom_group_kill 1\n";
    assert_eq!(number_after(text, "oom"), Some(2));
    assert_eq!(number_after(text, "oom_kill"), Some(3));
    assert_eq!(number_after(text, "absent"), None);
    let pressure = "some avg10=1.25 avg60=0.30 avg300=0.08 total=123\nfull avg10=0.00 avg60=0 avg300=0 total=0\n";
    assert!((pressure_some_avg10(pressure) - 1.25).abs() < f64::EPSILON);
}

proptest! {
    #[test]
    fn weights_stay_in_the_range_of_the_kernel_and_never_fall(a in 0_u64..1_000_000, b in 0_u64..1_000_000) {
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!((1..=10_000).contains(&cpu_weight(low)));
        prop_assert!(cpu_weight(low) <= cpu_weight(high));
    }
}
