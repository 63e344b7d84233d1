//! What a pod of the node's own becomes.

use std::collections::BTreeMap;

use super::*;
use crate::config::{MountSource, Propagation, Resources};
use crate::pod_task::tests::pod;

const GIB: u64 = 1 << 30;

fn places() -> Places {
    Places { on_disk: "/disk".into(), files: "/files".into(), message: "/messages/id".into() }
}

fn describe_with(
    pod: &Pod,
    first_user_id: Option<u32>,
    image_user: &str,
) -> Result<ContainerConfig, ConfigError> {
    let parts = Parts {
        attempt: 3,
        environment: vec![("POD".to_owned(), b"web".to_vec())],
        places: &places(),
        first_user_id,
        image_user,
        node_memory_bytes: GIB,
    };
    container(pod, &pod.spec.containers[0], parts)
}

fn describe(pod: &Pod) -> ContainerConfig {
    describe_with(pod, None, "").unwrap()
}

fn sandbox_of(pod: &Pod) -> SandboxConfig {
    let node = Node {
        logs: Path::new("/logs"),
        resolver: "search lan\nnameserver 192.0.2.1\noptions ndots:1 rotate\n",
        first_user_id: (!pod.spec.host_users).then_some(1 << 30),
    };
    sandbox(pod, &node)
}

/// A container with these fields, in a spec with those.
fn one(fields: &str, spec: &str) -> Pod {
    pod(&format!("  containers: [{{name: a, image: a, {fields}}}]\n{spec}"))
}

fn memory_of_pod(mains: &[&str], before: &[&str]) -> Option<u64> {
    let list = |all: &[&str], prefix: &str| {
        let one = |(n, limit): (usize, &&str)| format!("{{name: {prefix}{n}, image: a{limit}}}");
        all.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
    };
    let spec = format!(
        "  containers: [{}]\n  initContainers: [{}]\n",
        list(mains, "m"),
        list(before, "i")
    );
    sandbox_of(&pod(&spec)).resources.memory_limit_bytes
}

#[test]
fn a_pod_is_limited_to_what_runs_at_a_time_only_when_every_container_is_limited() {
    let limit = |bytes: u32| format!(", resources: {{limits: {{memory: {bytes}}}}}");
    let sidecar = |bytes: u32| format!(", restartPolicy: Always{}", limit(bytes));
    let (ten, twenty, fifty) = (&*limit(10), &*limit(20), &*limit(50));
    assert_eq!(memory_of_pod(&[ten, twenty], &[]), Some(30));
    assert_eq!(memory_of_pod(&[ten, ""], &[]), None);
    assert_eq!(memory_of_pod(&[ten], &[fifty]), Some(50));
    assert_eq!(memory_of_pod(&[ten], &[""]), None);
    assert_eq!(memory_of_pod(&[ten], &[&sidecar(5)]), Some(15));
    assert_eq!(memory_of_pod(&[ten], &[&sidecar(5), fifty]), Some(55));
}

#[test]
fn a_node_out_of_memory_takes_those_first_who_asked_for_nothing() {
    let score = |resources: &str, spec: &str| {
        describe(&one(&format!("resources: {resources}"), spec)).resources.oom_score_adj
    };
    assert_eq!(score("{}", ""), Some(1000));
    assert_eq!(score("{limits: {cpu: 100m, memory: 1Mi}}", ""), Some(-997));
    assert_eq!(score("{limits: {cpu: 100m}}", ""), Some(999));
    assert_eq!(score("{requests: {memory: 256Mi}}", ""), Some(750));
    assert_eq!(score("{requests: {memory: 16Gi}}", ""), Some(3));
    assert_eq!(score("{}", "  priorityClassName: system-node-critical"), Some(-997));
}

#[test]
fn cpu_limits_become_microseconds_in_a_tenth_of_a_second() {
    for (limit, expected) in
        [("1m", 1000), ("10m", 1000), ("250m", 25_000), ("1", 100_000), ("64", 6_400_000)]
    {
        let pod = one(&format!("resources: {{limits: {{cpu: {limit}, hugepages-2Mi: 4Mi}}}}"), "");
        let resources = describe(&pod).resources;
        assert_eq!(resources.cpu_quota_us, Some(expected), "{limit}");
        assert_eq!(resources.cpu_period_us, Some(100_000));
        assert_eq!(resources.hugepage_limits, BTreeMap::from([("2MB".into(), 4 << 20)]));
    }
    let Resources { cpu_shares, pids_limit, .. } = describe(&one("", "")).resources;
    assert_eq!((cpu_shares, pids_limit), (Some(2), Some(100)));
}

#[test]
fn each_kind_of_volume_has_its_place() {
    let pod = one(
        "volumeMounts: [{name: disk, mountPath: /disk, subPath: a}, {name: memory, mountPath: /memory}, {name: host, mountPath: /host, mountPropagation: HostToContainer}, {name: host, mountPath: /part, subPathExpr: $(POD)/x, readOnly: true, recursiveReadOnly: Enabled}, {name: map, mountPath: /map}, {name: image, mountPath: /image}]",
        "  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 7}}, {name: host, hostPath: {path: /srv}}, {name: map, configMap: {name: x, optional: true}}, {name: image, image: {reference: b}}]",
    );
    let mounts = describe(&pod).mounts;
    let sources: Vec<MountSource> = mounts.iter().map(|mount| mount.source.clone()).collect();
    let inside =
        |root: &str, sub: &str| MountSource::Inside { root: root.into(), sub_path: sub.into() };
    assert_eq!(
        sources,
        [
            inside("/disk/disk", "a"),
            MountSource::Memory { name: "memory".into(), sub_path: String::new() },
            MountSource::Host("/srv".into()),
            inside("/srv", "web/x"),
            inside("/files/map", ""),
            MountSource::Image { image: "b".into(), sub_path: String::new() },
            MountSource::Host("/messages/id".into()),
        ]
    );
    assert_eq!(mounts[2].propagation, Propagation::HostToContainer);
    assert!(mounts[3].recursive_read_only && mounts[4].read_only && mounts[5].read_only);
    assert_eq!(mounts[6].container_path, "/dev/termination-log");
    assert_eq!(sandbox_of(&pod).memory_volumes["memory"], Some(7));
}

#[test]
fn a_sub_path_that_leads_out_is_refused() {
    let pod = one(
        "volumeMounts: [{name: disk, mountPath: /disk, subPathExpr: $(GONE)/x}]",
        "  volumes: [{name: disk, emptyDir: {}}]",
    );
    assert!(describe_with(&pod, None, "").is_err());
}

#[test]
fn a_container_has_its_own_rights_where_it_says_so_and_else_its_pods() {
    let pod = one(
        "securityContext: {runAsUser: 5, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, procMount: Unmasked}",
        "  hostUsers: false\n  securityContext: {runAsUser: 1, runAsGroup: 2, fsGroup: 7, supplementalGroups: [9, 3], supplementalGroupsPolicy: Strict, seccompProfile: {type: Localhost, localhostProfile: a.json}}",
    );
    let config = describe_with(&pod, Some(1 << 30), "").unwrap();
    let security = config.security;
    assert_eq!((security.run_as_user, security.run_as_group), (Some(5), Some(2)));
    assert_eq!(security.supplemental_groups, [3, 7, 9]);
    assert!(security.supplemental_groups_strict && security.read_only_root);
    assert!(security.no_new_privileges);
    assert_eq!(security.masked_paths, Some(Vec::new()));
    let profile = format!("{SECCOMP_FOLDER}/a.json");
    assert_eq!(security.seccomp, SecurityProfile::Localhost(profile));
    assert_eq!(config.namespaces.user.unwrap().uids.host_id, 1 << 30);
    // Who says nothing is filtered, too.
    let security = describe(&one("", "")).security;
    assert_eq!(security.seccomp, SecurityProfile::RuntimeDefault);
    let security = describe(&one("securityContext: {privileged: true}", "")).security;
    assert_eq!(security.seccomp, SecurityProfile::Unconfined);
}

#[test]
fn a_container_that_must_not_be_root_is_not() {
    let pod = one("securityContext: {runAsNonRoot: true}", "");
    for (image_user, fine) in
        [("", false), ("0", false), ("0:5", false), ("www", false), ("33", true), ("33:33", true)]
    {
        assert_eq!(describe_with(&pod, None, image_user).is_ok(), fine, "{image_user:?}");
    }
    let own = one("securityContext: {runAsNonRoot: true, runAsUser: 7}", "");
    assert!(describe_with(&own, None, "").is_ok());
}

#[test]
fn a_group_of_its_own_goes_with_the_images_user() {
    let pod = one("securityContext: {runAsGroup: 5}", "");
    let user = |image_user: &str| {
        let security = describe_with(&pod, None, image_user).unwrap().security;
        (security.run_as_user, security.run_as_username)
    };
    assert_eq!(user(""), (Some(0), String::new()));
    assert_eq!(user("33:33"), (Some(33), String::new()));
    assert_eq!(user("www"), (None, "www".to_owned()));
}

#[test]
fn a_sandbox_is_what_the_pod_says() {
    let pod = one(
        "ports: [{containerPort: 80, hostPort: 8080, hostIP: 192.0.2.1}, {containerPort: 81}]",
        "  shareProcessNamespace: true\n  hostIPC: true\n  hostAliases: [{ip: 192.0.2.7, hostnames: [a, b]}]\n  securityContext: {sysctls: [{name: net.core.somaxconn, value: 1}]}\n  dnsConfig: {nameservers: [192.0.2.2], searches: [lan, more], options: [{name: ndots, value: \"5\"}]}",
    );
    let config = sandbox_of(&pod);
    assert_eq!(config.hostname, "web");
    assert_eq!(config.ports.len(), 1);
    assert_eq!((config.ports[0].container_port, config.ports[0].host_port), (80, 8080));
    assert_eq!(config.namespaces.pid, NamespaceMode::Pod);
    assert_eq!(config.namespaces.ipc, NamespaceMode::Node);
    assert_eq!(config.sysctls["net.core.somaxconn"], "1");
    assert_eq!(config.host_aliases[0].1, ["a", "b"]);
    let dns = config.dns.unwrap();
    assert_eq!(dns.servers, ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(dns.searches, ["lan", "more"]);
    assert_eq!(dns.options, ["rotate", "ndots:5"]);
}

#[test]
fn the_nodes_resolver_is_used_as_it_is_unless_the_pod_says_otherwise() {
    assert_eq!(sandbox_of(&one("", "")).dns, None);
    let none = one("", "  dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.9]}");
    assert_eq!(sandbox_of(&none).dns.unwrap().servers, ["192.0.2.9"]);
}

#[test]
fn a_pod_with_the_nodes_network_has_the_nodes_name_and_ports() {
    let pod = one("ports: [{containerPort: 80, hostPort: 80}]", "  hostNetwork: true");
    let config = sandbox_of(&pod);
    assert_eq!(config.hostname, "");
    assert_eq!(config.namespaces.network, NamespaceMode::Node);
    assert!(config.ports.is_empty());
}

#[test]
fn the_signal_that_ends_a_container_may_be_the_pods() {
    assert_eq!(describe(&one("lifecycle: {stopSignal: SIGUSR1}", "")).stop_signal, Some(10));
    assert_eq!(describe(&one("lifecycle: {stopSignal: SIGRTMIN+3}", "")).stop_signal, Some(37));
    assert_eq!(describe(&one("", "")).stop_signal, None);
}
