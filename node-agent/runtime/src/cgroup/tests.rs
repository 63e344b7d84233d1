//! The table from limits to cgroup files, and which paths are cgroups.

use super::settings::cpu_weight;
use super::*;
use crate::config::Resources;
use proptest::prelude::*;

fn text(resources: &Resources) -> String {
    let settings = settings(resources).unwrap();
    let lines: Vec<String> =
        settings.iter().map(|(file, value)| format!("{file}={value}")).collect();
    lines.join("\n")
}

#[test]
fn cpu_requests_become_the_weights_of_the_kubelet() {
    for (shares, expected) in
        [(0, 1), (2, 1), (102, 4), (256, 10), (512, 20), (1024, 39), (2048, 79), (262_144, 10_000)]
    {
        assert_eq!(cpu_weight(shares), expected, "{shares}");
    }
}

#[test]
fn every_limit_has_its_file() {
    let resources = Resources {
        cpu_period_us: Some(50_000),
        cpu_quota_us: Some(25_000),
        cpu_shares: Some(102),
        cpuset_cpus: "0-2,7".into(),
        cpuset_mems: "0".into(),
        memory_limit_bytes: Some(64 << 20),
        memory_low_bytes: Some(32 << 20),
        memory_swap_limit_bytes: Some(80 << 20),
        oom_score_adj: Some(-5),
        pids_limit: Some(64),
        hugepage_limits: [("2MB".to_owned(), 4 << 20)].into(),
        unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
    };
    expect_test::expect![[r"
        cpu.max=25000 50000
        cpu.weight=4
        cpuset.cpus=0-2,7
        cpuset.mems=0
        memory.max=67108864
        memory.swap.max=16777216
        memory.low=33554432
        pids.max=64
        hugetlb.2MB.max=4194304
        hugetlb.2MB.rsvd.max=4194304
        memory.oom.group=1"]]
    .assert_eq(&text(&resources));
    assert_eq!(text(&Resources::default()), "");
    let settings = settings(&resources).unwrap();
    let mut more: Vec<&str> = settings::more_controllers(&settings).collect();
    more.dedup();
    assert_eq!(more, ["cpuset", "hugetlb"]);
}

#[test]
fn swap_is_what_is_left_of_both_and_none_when_nothing_is_said() {
    let swap = |memory: Option<u64>, both: Option<i64>| {
        let resources = Resources {
            memory_limit_bytes: memory,
            memory_swap_limit_bytes: both,
            ..Resources::default()
        };
        settings(&resources).unwrap().into_iter().find(|(file, _)| file == "memory.swap.max")
    };
    let is = |value: &str| Some(("memory.swap.max".to_owned(), value.to_owned()));
    assert_eq!(swap(Some(10), Some(10)), is("0"));
    assert_eq!(swap(Some(10), Some(15)), is("5"));
    assert_eq!(swap(Some(10), Some(5)), is("0"));
    assert_eq!(swap(Some(10), Some(-1)), is("max"));
    assert_eq!(swap(Some(10), Some(0)), is("0"));
    assert_eq!(swap(Some(10), None), is("0"));
    assert_eq!(swap(None, None), None);
}

#[test]
fn a_quota_without_bound_is_none() {
    let quota = |quota| {
        text(&Resources { cpu_quota_us: quota, cpu_period_us: Some(100), ..Resources::default() })
    };
    assert_eq!(quota(Some(-1)), "cpu.max=max 100");
    assert_eq!(quota(None), "cpu.max=max 100");
}

#[test]
fn cve_2023_6476_only_limits_can_be_written_by_name() {
    for file in [
        "cgroup.procs",
        "cgroup.kill",
        "cgroup.freeze",
        "../memory.max",
        "memory/../../x.max",
        "memory..max",
        "memory",
        ".max",
        "memory.",
        "",
    ] {
        let unified = [(file.to_owned(), "1".to_owned())].into();
        let refused = settings(&Resources { unified, ..Resources::default() });
        assert!(matches!(refused, Err(CgroupError::Name { .. })), "{file}");
    }
    for size in ["2MB/../..", "MB", "2", "2mb", "../2MB"] {
        let hugepage_limits = [(size.to_owned(), 1)].into();
        let refused = settings(&Resources { hugepage_limits, ..Resources::default() });
        assert!(matches!(refused, Err(CgroupError::Name { .. })), "{size}");
    }
}

#[test]
fn cve_2025_47291_a_container_is_below_its_pod_in_every_kind_of_sandbox() {
    let place = |parent: &str, of_pod: bool| {
        let config = SandboxConfig {
            cgroup_parent: parent.to_owned(),
            cgroup_parent_is_pod: of_pod,
            ..SandboxConfig::default()
        };
        let cgroup = Cgroup::of_sandbox(Path::new("/cg"), "key", &config);
        cgroup.map(|cgroup| cgroup.of_container("id").name(Path::new("/cg")))
    };
    assert_eq!(place("", false).unwrap(), "/pods/key/id");
    assert_eq!(place("", true).unwrap(), "/pods/key/id");
    assert_eq!(place("/kubepods/besteffort/pod7", true).unwrap(), "/kubepods/besteffort/pod7/id");
    assert_eq!(place("/test", false).unwrap(), "/test/key/id");
    for wrong in ["relative", "/a/../b", "/a//b", "/", "/a\nb", "/./a", "/a/"] {
        assert!(matches!(place(wrong, false), Err(CgroupError::Path { .. })), "{wrong:?}");
    }
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
