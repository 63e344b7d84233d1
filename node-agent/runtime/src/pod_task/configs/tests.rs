//! What a pod of the node's own becomes.

use super::*;
use crate::pod::{Volume, VolumeMount};

const GIB: u64 = 1 << 30;

fn describe(pod: &Pod, of: &Container) -> ContainerConfig {
    container(pod, of, 0, Path::new("/volumes"), GIB).unwrap()
}

fn limited(memory: Option<u64>) -> Container {
    let resources = pod::Resources { memory_limit_bytes: memory, ..pod::Resources::default() };
    Container { resources, ..Container::default() }
}

fn memory_of_pod(memory: &[Option<u64>], init: &[Option<u64>]) -> Option<u64> {
    let all = |list: &[Option<u64>]| list.iter().map(|bytes| limited(*bytes)).collect();
    let pod = Pod { containers: all(memory), init_containers: all(init), ..Pod::default() };
    pod_resources(&pod).memory_limit_bytes
}

#[test]
fn a_pod_is_limited_to_the_sum_only_when_every_container_is_limited() {
    assert_eq!(memory_of_pod(&[Some(10), Some(20)], &[]), Some(30));
    assert_eq!(memory_of_pod(&[Some(10), None], &[]), None);
}

#[test]
fn a_pod_has_room_for_its_largest_init_container() {
    assert_eq!(memory_of_pod(&[Some(10)], &[Some(50)]), Some(50));
    assert_eq!(memory_of_pod(&[Some(10)], &[None]), None);
}

#[test]
fn a_node_out_of_memory_takes_those_first_who_asked_for_nothing() {
    let score = |cpu: Option<u64>, limit: Option<u64>, request: Option<u64>| {
        let resources = pod::Resources {
            cpu_limit_millis: cpu,
            cpu_request_millis: cpu,
            memory_limit_bytes: limit,
            memory_request_bytes: request,
        };
        oom_score_adj(&resources, GIB)
    };
    assert_eq!(score(None, None, None), 1000);
    assert_eq!(score(Some(100), Some(1 << 20), Some(1 << 20)), -997);
    assert_eq!(score(Some(100), None, None), 999);
    assert_eq!(score(None, None, Some(1 << 28)), 750);
    assert_eq!(score(None, None, Some(1 << 34)), 3);
}

#[test]
fn cpu_limits_become_microseconds_in_a_tenth_of_a_second() {
    for (millis, expected) in [
        (1, 1000),
        (10, 1000),
        (250, 25_000),
        (1000, 100_000),
        (1500, 150_000),
        (64_000, 6_400_000),
    ] {
        let limit = pod::Resources { cpu_limit_millis: Some(millis), ..pod::Resources::default() };
        assert_eq!(common(&limit).cpu_quota_us, Some(expected), "{millis}m");
        assert_eq!(common(&limit).cpu_period_us, Some(100_000));
    }
}

#[test]
fn references_are_expanded_by_what_was_set_before() {
    let of = Container {
        args: vec!["--name=$(NAME)".into(), "$$(NAME)".into(), "$(UNKNOWN)".into()],
        env: vec![
            ("MODE".into(), "pod".into()),
            ("NAME".into(), "a$(MODE)".into()),
            ("LATER".into(), "$(NEVER)".into()),
            ("NEVER".into(), "x".into()),
        ],
        ..Container::default()
    };
    let config = describe(&Pod::default(), &of);
    assert_eq!(config.args, ["--name=apod", "$(NAME)", "$(UNKNOWN)"]);
    assert_eq!(config.env[1], ("NAME".to_owned(), b"apod".to_vec()));
    assert_eq!(config.env[2], ("LATER".to_owned(), b"$(NEVER)".to_vec()));
}

#[test]
fn each_kind_of_volume_has_its_place() {
    let volume = |name: &str, kind| Volume { name: name.to_owned(), kind };
    let pod = Pod {
        name: "web".into(),
        volumes: vec![
            volume("disk", VolumeKind::EmptyDir { size_limit_bytes: None }),
            volume("memory", VolumeKind::EmptyDirMemory { size_limit_bytes: Some(7) }),
            volume("host", VolumeKind::HostPath { path: "/srv".into() }),
        ],
        ..Pod::default()
    };
    let mount = |volume: &str| VolumeMount {
        volume: volume.into(),
        path: format!("/{volume}"),
        ..VolumeMount::default()
    };
    let of = Container {
        mounts: ["disk", "memory", "host"].map(mount).to_vec(),
        ..Container::default()
    };
    let sources: Vec<MountSource> =
        describe(&pod, &of).mounts.into_iter().map(|mount| mount.source).collect();
    let empty = String::new;
    assert_eq!(
        sources,
        [
            MountSource::Inside { root: "/volumes/disk".into(), sub_path: empty() },
            MountSource::Memory { name: "memory".into(), sub_path: empty() },
            MountSource::Host("/srv".into()),
        ]
    );
    assert_eq!(sandbox(&pod, Path::new("/logs")).memory_volumes["memory"], Some(7));
    let wrong = Container { mounts: vec![mount("gone")], ..Container::default() };
    let refused = container(&pod, &wrong, 0, Path::new("/volumes"), GIB);
    assert_eq!(refused, Err(NoVolume { volume: "gone".into() }));
}

#[test]
fn a_pod_with_the_nodes_network_has_the_nodes_name() {
    let pod = Pod { name: "web".into(), host_network: true, ..Pod::default() };
    assert_eq!(hostname(&pod), "");
    assert_eq!(hostname(&Pod { host_network: false, ..pod }), "web");
}
