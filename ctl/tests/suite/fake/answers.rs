//! What the fake node says: one of everything that a table has to show.

use ingot_api::machine::v1::*;
use prost_types::{Duration, Timestamp};

fn time(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_790_000_000 + seconds, nanos: 0 })
}

pub(crate) fn version(maintenance: bool) -> VersionResponse {
    VersionResponse {
        version: "0.1.0".into(),
        revision: "b665716".into(),
        kernel: "6.12.107".into(),
        architecture: "x86_64".into(),
        profile: "vm".into(),
        maintenance,
    }
}

/// Refuses what says so, else accepts.
pub(crate) fn apply(request: &ApplyConfigRequest) -> ApplyConfigResponse {
    if request.config.contains("refuse-me") {
        let problem = |line, path: &str, message: &str, hint: &str| ConfigProblem {
            document: 0,
            path: path.into(),
            line,
            column: 3,
            message: message.into(),
            hint: hint.into(),
        };
        return ApplyConfigResponse {
            problems: vec![
                problem(4, "network.hostname", "\"refuse-me\" is taken", "choose another name"),
                problem(7, "network.links[0]", "there is no link eth7", ""),
            ],
            ..Default::default()
        };
    }
    ApplyConfigResponse {
        generation: 7,
        unchanged: request.config.contains("same-as-before"),
        changes: vec!["network.hostname: \"node\" -> \"web-1\"".into()],
        ..Default::default()
    }
}

pub(crate) fn config() -> GetConfigResponse {
    GetConfigResponse {
        config: "apiVersion: ingot/v1\nkind: Machine\napi:\n  ca:\n    key: <redacted>\n".into(),
        generation: 7,
        source: "api".into(),
    }
}

pub(crate) fn status() -> StatusResponse {
    let condition = |name: &str, state: condition::State, message: &str, deadline| Condition {
        name: name.into(),
        state: state.into(),
        message: message.into(),
        since: time(-30),
        deadline,
        generation: 7,
    };
    StatusResponse {
        node_name: "web-1".into(),
        stage: Stage::Configuring.into(),
        conditions: vec![
            condition(
                "network",
                condition::State::Waiting,
                "an address from DHCP on eth0",
                time(30),
            ),
            condition("storage", condition::State::Ok, "", None),
            condition("pods", condition::State::Failed, "pod default/web: no image app:2", None),
        ],
        generation: 7,
        links: vec![LinkStatus {
            name: "eth0".into(),
            mac: "52:54:00:12:34:56".into(),
            up: true,
            mtu: 1500,
            addresses: vec!["10.0.2.15/24".into(), "fe80::1/64".into()],
        }],
        root: Some(RootStatus {
            root_hash: "ab".repeat(32),
            verity: "verified".into(),
            read_only: true,
            on_corruption: "panic".into(),
            slot: "a".into(),
        }),
        memory: Some(MemoryStatus { total_bytes: 512 << 20, available_bytes: 448 << 20 }),
        uptime: Some(Duration { seconds: 93_784, nanos: 0 }),
        boot_id: "4f1c1f6e-0000-4000-8000-000000000000".into(),
        certificate_fingerprint: "cd".repeat(32),
        now: time(0),
        time_synchronized: true,
        volumes: vec![VolumeStatus {
            name: "STATE".into(),
            mount_point: "/state".into(),
            device: "/dev/vda4".into(),
            size_bytes: 256 << 20,
            available_bytes: 250 << 20,
        }],
    }
}

pub(crate) fn pods() -> ListPodsResponse {
    let container = Container {
        name: "app".into(),
        id: "0123456789abcdef".repeat(4),
        image: "app:1".into(),
        state: container::State::Running.into(),
        restarts: 2,
        pid: 312,
        started_at: time(-3700),
        cgroup: "pods/u1/c1".into(),
        ..Default::default()
    };
    let crashing = Container {
        name: "worker".into(),
        image: "worker:1".into(),
        state: container::State::Waiting.into(),
        reason: "CrashLoopBackOff".into(),
        message: "exit code 1".into(),
        restarts: 5,
        next_start_at: time(40),
        exit_code: 1,
        ..Default::default()
    };
    let web = Pod {
        namespace: "default".into(),
        name: "web".into(),
        uid: "u1".into(),
        phase: "Running".into(),
        ips: vec!["10.244.0.2".into()],
        started_at: time(-3700),
        containers: vec![container],
        source: "config".into(),
        ..Default::default()
    };
    let jobs = Pod {
        namespace: "default".into(),
        name: "jobs".into(),
        uid: "u2".into(),
        phase: "Pending".into(),
        reason: "CrashLoopBackOff".into(),
        message: "container worker: exit code 1".into(),
        host_network: true,
        containers: vec![crashing],
        source: "config".into(),
        ..Default::default()
    };
    ListPodsResponse { pods: vec![web, jobs] }
}

pub(crate) fn stats() -> PodStatsResponse {
    PodStatsResponse {
        containers: vec![ContainerStats {
            namespace: "default".into(),
            pod: "web".into(),
            container: "app".into(),
            time: time(0),
            cpu_usage_usec: 12_500_000,
            cpu_throttled_usec: 3_000_000,
            cpu_periods: 200,
            cpu_throttled_periods: 150,
            cpu_limit_millicores: 250,
            memory_bytes: 20 << 20,
            memory_working_set_bytes: 18 << 20,
            memory_peak_bytes: 30 << 20,
            memory_limit_bytes: 64 << 20,
            oom_kills: 1,
            pids: 4,
            pids_limit: 0,
            cpu_pressure_some_avg10: 74.5,
            memory_pressure_some_avg10: 0.0,
            source: "config".into(),
            id: "4f2a".repeat(16),
            io_pressure_some_avg10: 0.25,
        }],
    }
}

pub(crate) fn logs(request: &PodLogsRequest) -> Vec<PodLogsResponse> {
    let line = |text: &[u8], stream: &str, partial| PodLogsResponse {
        time: time(0),
        stream: stream.into(),
        line: text.to_vec(),
        partial,
        attempt: 2,
    };
    let lines = vec![
        line(b"listening on :80", "stdout", false),
        line(b"a long line ", "stderr", true),
        line(b"that was cut \x1b[31m\xff", "stderr", false),
    ];
    let skip = match request.tail_lines as usize {
        0 => 0,
        tail => lines.len().saturating_sub(tail),
    };
    lines.into_iter().skip(skip).collect()
}

pub(crate) fn upgrade(to: String) -> PlanKubernetesUpgradeResponse {
    let kubelet =
        |node: &str, version: &str| KubeletVersion { node: node.into(), version: version.into() };
    let finding = |level: &str, message: &str| UpgradeFinding {
        level: level.into(),
        message: message.into(),
    };
    PlanKubernetesUpgradeResponse {
        from_version: "v1.36.3".into(),
        image_version: "v1.36.3".into(),
        kubelets: vec![kubelet("one", "v1.36.3"), kubelet("two", "v1.33.9")],
        findings: match to.as_str() {
            "1.36.4" => vec![finding("info", "the image of this node holds v1.36.3")],
            _ => vec![
                finding("blocks", "node two: its kubelet v1.33.9 is too far behind"),
                finding("warning", "clients ask for v1 componentstatuses, which is deprecated"),
            ],
        },
        to_version: to,
    }
}

pub(crate) fn health() -> HealthResponse {
    let part = |name: &str, state: &str, message: &str| HealthPart {
        name: name.into(),
        state: state.into(),
        message: message.into(),
        since: None,
    };
    HealthResponse {
        parts: vec![
            part("etcd", "ok", "ready"),
            part("kube-scheduler", "waiting", "for kube-apiserver"),
        ],
    }
}

pub(crate) fn etcd_members() -> EtcdMembersResponse {
    EtcdMembersResponse {
        members: vec![EtcdMember {
            id: "8e9e05c52164694d".into(),
            name: "node-1".into(),
            peer_urls: vec!["https://127.0.0.1:2380".into()],
            client_urls: vec!["https://127.0.0.1:2379".into()],
            learner: false,
        }],
    }
}

pub(crate) fn etcd_status() -> EtcdStatusResponse {
    EtcdStatusResponse {
        version: "3.6.8".into(),
        size_bytes: 20 << 20,
        used_bytes: 3 << 20,
        leader: true,
        raft_index: 1234,
        errors: Vec::new(),
    }
}

pub(crate) fn services() -> ListServicesResponse {
    ListServicesResponse {
        services: vec![Service {
            name: "ingotd".into(),
            state: "running".into(),
            pid: 71,
            restarts: 1,
            running_for: Some(Duration { seconds: 61, nanos: 0 }),
            last_exit: "signal 9 (SIGKILL)".into(),
        }],
    }
}

pub(crate) fn dmesg() -> Vec<DmesgResponse> {
    vec![DmesgResponse {
        sequence: 1,
        time: Some(Duration { seconds: 1, nanos: 234_567_000 }),
        severity: 6,
        facility: "kern".into(),
        message: "Linux version 6.12.107".into(),
    }]
}

pub(crate) fn events() -> Vec<Event> {
    vec![Event {
        sequence: 12,
        time: time(0),
        reason: "OOMKilled".into(),
        severity: "warning".into(),
        object: "container/default/web/app".into(),
        message: "over its memory limit of 64 MiB".into(),
    }]
}

pub(crate) fn cgroups() -> CgroupsResponse {
    let group = |path: &str| Cgroup { path: path.into(), cpu_weight: 100, ..Default::default() };
    let pod = Cgroup {
        cpu_max_quota_usec: 25_000,
        cpu_max_period_usec: 100_000,
        cpu_usage_usec: 1_500_000,
        memory_max_bytes: 64 << 20,
        memory_current_bytes: 20 << 20,
        memory_peak_bytes: 30 << 20,
        pids_max: 32,
        pids_current: 4,
        cpu_pressure_some_avg10: 74.5,
        oom_kills: 1,
        ..group("pods/u1/c1")
    };
    CgroupsResponse { cgroups: vec![group("init"), group("pods"), group("pods/u1"), pod] }
}

pub(crate) fn files() -> Vec<FileInfo> {
    let file = |path: &str, mode, size_bytes| FileInfo {
        path: path.into(),
        mode,
        size_bytes,
        modified_at: time(0),
        ..Default::default()
    };
    vec![
        file("/usr/bin/ingotd", 0o100_755, 9_437_184),
        FileInfo {
            link_target: "/run/ingot/etc/hosts".into(),
            ..file("/etc/hosts", 0o120_777, 20)
        },
        file("/var", 0o040_755, 4096),
        FileInfo { error: "permission denied".into(), ..file("/state/ingot/pki", 0, 0) },
    ]
}

pub(crate) fn containers() -> ListContainersResponse {
    let own = RunningContainer {
        id: "4f2a".repeat(16),
        namespace: "default".into(),
        pod: "web".into(),
        container: "app".into(),
        source: "config".into(),
        image: "ingot/workload:latest".into(),
        state: "running".into(),
        pid: 312,
        started_at: time(10),
        cgroup: "pods/0d1c/4f2a".into(),
        restarts: 2,
        exit_code: 0,
        sandbox: "0d1c".into(),
    };
    let ended = RunningContainer {
        id: "beef".repeat(16),
        namespace: "kube-system".into(),
        pod: "dns".into(),
        container: "dns\u{1b}[31m".into(),
        source: "cri".into(),
        state: "ended".into(),
        exit_code: 137,
        pid: 0,
        cgroup: String::new(),
        ..own.clone()
    };
    ListContainersResponse { containers: vec![own, ended] }
}

pub(crate) fn images() -> ListImagesResponse {
    let bundled = Image {
        id: format!("sha256:{}", "ab".repeat(32)),
        tags: vec!["ingot/workload:latest".into()],
        digests: vec![],
        size_bytes: 0,
        bundled: true,
        containers: 2,
    };
    let pulled = Image {
        id: format!("sha256:{}", "cd".repeat(32)),
        tags: vec![],
        digests: vec![format!("registry.example/web@sha256:{}", "01".repeat(32))],
        size_bytes: 12 << 20,
        bundled: false,
        containers: 0,
    };
    ListImagesResponse { images: vec![bundled, pulled], store_bytes: 12 << 20, store_inodes: 900 }
}

/// So many lines that whoever keeps them all for a reader who pauses would be overwhelmed.
pub(crate) const CHATTER: usize = 40_000;

/// Many short lines.
pub(crate) fn chatter() -> impl Iterator<Item = PodLogsResponse> + Send {
    (0..CHATTER).map(|number| PodLogsResponse {
        stream: "stdout".to_owned(),
        line: format!("line {number}").into_bytes(),
        ..Default::default()
    })
}
