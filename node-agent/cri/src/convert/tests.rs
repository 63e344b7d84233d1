//! What callers may send, and what is made of it.

use ingot_runtime::config::{
    MountSource, NamespaceMode, Propagation, SandboxConfig, SecurityProfile,
};

use super::{container, resources, sandbox};
use crate::check::Checked;
use crate::v1;

fn pod() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".to_owned(),
            uid: "1-2-3".to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        ..v1::PodSandboxConfig::default()
    }
}

fn pod_with(context: v1::LinuxSandboxSecurityContext) -> v1::PodSandboxConfig {
    let linux = v1::LinuxPodSandboxConfig {
        security_context: Some(context),
        ..v1::LinuxPodSandboxConfig::default()
    };
    v1::PodSandboxConfig { linux: Some(linux), ..pod() }
}

fn in_namespaces(options: v1::NamespaceOption) -> Checked<SandboxConfig> {
    let context = v1::LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        ..v1::LinuxSandboxSecurityContext::default()
    };
    sandbox(pod_with(context), String::new())
}

fn with_users(mode: v1::NamespaceMode, uids: &[(u32, u32, u32)]) -> Checked<SandboxConfig> {
    let ranges: Vec<_> = uids
        .iter()
        .map(|(container_id, host_id, length)| v1::IdMapping {
            host_id: *host_id,
            container_id: *container_id,
            length: *length,
        })
        .collect();
    in_namespaces(v1::NamespaceOption {
        userns_options: Some(v1::UserNamespace {
            mode: mode.into(),
            uids: ranges.clone(),
            gids: ranges,
        }),
        ..v1::NamespaceOption::default()
    })
}

fn plain() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "app".to_owned(), attempt: 3 }),
        image: Some(v1::ImageSpec { image: "busybox".to_owned(), ..v1::ImageSpec::default() }),
        ..v1::ContainerConfig::default()
    }
}

fn with_security(context: v1::LinuxContainerSecurityContext) -> v1::ContainerConfig {
    let linux = v1::LinuxContainerConfig { security_context: Some(context), resources: None };
    v1::ContainerConfig { linux: Some(linux), ..plain() }
}

fn with_mount(mount: v1::Mount) -> v1::ContainerConfig {
    v1::ContainerConfig { mounts: vec![mount], ..plain() }
}

fn mount() -> v1::Mount {
    v1::Mount {
        container_path: "/data".to_owned(),
        host_path: "/srv".to_owned(),
        ..v1::Mount::default()
    }
}

fn refusal<T: std::fmt::Debug>(result: Checked<T>) -> String {
    result.expect_err("it makes no sense").to_string()
}

#[test]
fn an_empty_request_is_refused_with_what_is_missing() {
    let refused = refusal(sandbox(v1::PodSandboxConfig::default(), String::new()));
    assert_eq!(refused, "config.metadata: has to be given");
    let none = SandboxConfig::default();
    let refused = refusal(container(v1::ContainerConfig::default(), &none));
    assert_eq!(refused, "config.metadata: has to be given");
}

#[test]
fn an_unknown_runtime_handler_is_refused() {
    assert!(refusal(sandbox(pod(), "kata".to_owned())).contains("runtime_handler"));
    assert!(sandbox(pod(), "ingot".to_owned()).is_ok());
}

#[test]
fn labels_and_annotations_are_kept_as_they_are() {
    let mut config = pod();
    config.annotations.insert("a/b".to_owned(), "{\"c\": 1}".to_owned());
    config.labels.insert(String::new(), String::new());
    let made = sandbox(config.clone(), String::new()).expect("it makes sense");
    assert_eq!(made.annotations.into_iter().collect::<Vec<_>>().len(), 1);
    assert_eq!(made.labels.get("").map(String::as_str), Some(""));
}

#[test]
fn a_log_folder_is_never_relative_and_never_the_root() {
    for folder in ["logs", "/", "/var/log/../../etc"] {
        let config = v1::PodSandboxConfig { log_directory: folder.to_owned(), ..pod() };
        assert!(refusal(sandbox(config, String::new())).starts_with("config.log_directory"));
    }
}

#[test]
fn a_pod_cannot_be_put_into_the_nodes_own_cgroups() {
    for parent in ["/system/ingotd", "init", "/pods/x", "/kubepods/../system", "/"] {
        let linux = v1::LinuxPodSandboxConfig {
            cgroup_parent: parent.to_owned(),
            ..v1::LinuxPodSandboxConfig::default()
        };
        let config = v1::PodSandboxConfig { linux: Some(linux), ..pod() };
        assert!(sandbox(config, String::new()).is_err(), "{parent}");
    }
    let linux = v1::LinuxPodSandboxConfig {
        cgroup_parent: "/kubepods/burstable/pod1/".to_owned(),
        ..v1::LinuxPodSandboxConfig::default()
    };
    let config = v1::PodSandboxConfig { linux: Some(linux), ..pod() };
    let made = sandbox(config, String::new()).expect("it makes sense");
    assert_eq!(made.cgroup_parent, "/kubepods/burstable/pod1");
    assert!(made.cgroup_parent_is_pod);
}

#[test]
fn a_port_of_the_node_that_is_zero_is_none() {
    let port = |host_port, container_port| v1::PortMapping {
        host_port,
        container_port,
        ..v1::PortMapping::default()
    };
    let config = v1::PodSandboxConfig { port_mappings: vec![port(0, 80), port(8080, 80)], ..pod() };
    let made = sandbox(config, String::new()).expect("it makes sense");
    assert_eq!(made.ports.len(), 1);
    for wrong in [port(70_000, 80), port(-1, 80), port(80, 0), port(80, 65_536)] {
        let config = v1::PodSandboxConfig { port_mappings: vec![wrong], ..pod() };
        assert!(sandbox(config, String::new()).is_err());
    }
}

#[test]
fn kernel_parameters_of_the_node_cannot_be_set_by_a_pod() {
    let with = |name: &str, options: v1::NamespaceOption| {
        let linux = v1::LinuxPodSandboxConfig {
            sysctls: [(name.to_owned(), "1".to_owned())].into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            ..v1::LinuxPodSandboxConfig::default()
        };
        sandbox(v1::PodSandboxConfig { linux: Some(linux), ..pod() }, String::new())
    };
    let own = v1::NamespaceOption::default();
    for fine in ["kernel.shm_rmid_forced", "fs.mqueue.msg_max", "net.ipv4.ip_forward"] {
        assert!(with(fine, own.clone()).is_ok(), "{fine}");
    }
    for wrong in ["kernel.panic", "vm.swappiness", "net/../kernel/panic", "fs.mqueue", ""] {
        assert!(with(wrong, own.clone()).is_err(), "{wrong}");
    }
    let node = v1::NamespaceOption { network: 2, ipc: 2, ..v1::NamespaceOption::default() };
    assert!(with("net.ipv4.ip_forward", node.clone()).is_err());
    assert!(with("kernel.sem", node).is_err());
}

#[test]
fn a_user_namespace_has_one_range_that_begins_with_root() {
    use v1::NamespaceMode::{Container, Node, Pod, Target};
    let made = with_users(Pod, &[(0, 100_000, 65_536)]).expect("it makes sense");
    assert_eq!(made.namespaces.user.expect("it is there").uids.host_id, 100_000);
    assert!(with_users(Node, &[]).expect("it makes sense").namespaces.user.is_none());
    assert!(with_users(Pod, &[]).is_err());
    assert!(with_users(Pod, &[(0, 1000, 10), (10, 2000, 10)]).is_err());
    assert!(with_users(Pod, &[(1, 100_000, 65_536)]).is_err());
    assert!(with_users(Pod, &[(0, 100_000, 0)]).is_err());
    assert!(with_users(Pod, &[(0, u32::MAX, 2)]).is_err());
    assert!(with_users(Container, &[(0, 100_000, 65_536)]).is_err());
    assert!(with_users(Target, &[(0, 100_000, 65_536)]).is_err());
}

#[test]
fn network_and_ipc_are_the_pods_or_the_nodes() {
    let wrong = v1::NamespaceOption { network: 1, ..v1::NamespaceOption::default() };
    assert!(in_namespaces(wrong).is_err());
    let wrong = v1::NamespaceOption { ipc: 99, ..v1::NamespaceOption::default() };
    assert!(in_namespaces(wrong).is_err());
    let wrong = v1::NamespaceOption { pid: 3, ..v1::NamespaceOption::default() };
    assert!(in_namespaces(wrong).is_err());
}

#[test]
fn environment_values_may_be_any_bytes_but_nul() {
    let with = |key: &str, value: &[u8]| {
        let envs = vec![v1::KeyValue { key: key.to_owned(), value: value.to_vec() }];
        let config = v1::ContainerConfig { envs, ..plain() };
        container(config, &SandboxConfig::default())
    };
    assert_eq!(with("A", b"\xff\xfe").expect("it makes sense").env[0].1, b"\xff\xfe");
    assert!(with("A", b"a\0b").is_err());
    assert!(with("A=B", b"").is_err());
    assert!(with("", b"").is_err());
}

#[test]
fn a_group_without_a_user_is_refused() {
    let context = v1::LinuxContainerSecurityContext {
        run_as_group: Some(v1::Int64Value { value: 1 }),
        ..v1::LinuxContainerSecurityContext::default()
    };
    assert!(container(with_security(context), &SandboxConfig::default()).is_err());
    let context = v1::LinuxContainerSecurityContext {
        run_as_user: Some(v1::Int64Value { value: -1 }),
        ..v1::LinuxContainerSecurityContext::default()
    };
    assert!(container(with_security(context), &SandboxConfig::default()).is_err());
}

#[test]
fn a_privileged_container_needs_a_privileged_sandbox() {
    let context = || v1::LinuxContainerSecurityContext {
        privileged: true,
        ..v1::LinuxContainerSecurityContext::default()
    };
    assert!(container(with_security(context()), &SandboxConfig::default()).is_err());
    let mut sandbox = SandboxConfig::default();
    sandbox.security.privileged = true;
    assert!(container(with_security(context()), &sandbox).is_ok());
}

#[test]
fn an_apparmor_profile_is_named_with_and_without_the_word_before_it() {
    for name in ["web", "localhost/web"] {
        let profile = v1::SecurityProfile { profile_type: 2, localhost_ref: name.to_owned() };
        let context = v1::LinuxContainerSecurityContext {
            apparmor: Some(profile),
            ..v1::LinuxContainerSecurityContext::default()
        };
        let made = container(with_security(context), &SandboxConfig::default());
        let made = made.expect("it makes sense").security.apparmor;
        assert_eq!(made, SecurityProfile::Localhost("web".to_owned()));
    }
}

#[test]
fn no_seccomp_profile_is_none_and_no_apparmor_profile_is_the_runtimes() {
    let made = container(plain(), &SandboxConfig::default()).expect("it makes sense");
    assert_eq!(made.security.seccomp, SecurityProfile::Unconfined);
    assert_eq!(made.security.apparmor, SecurityProfile::RuntimeDefault);
    let profile = |kind: i32, name: &str| v1::LinuxContainerSecurityContext {
        seccomp: Some(v1::SecurityProfile { profile_type: kind, localhost_ref: name.to_owned() }),
        ..v1::LinuxContainerSecurityContext::default()
    };
    let of = |context| container(with_security(context), &SandboxConfig::default());
    assert!(of(profile(2, "relative")).is_err());
    assert!(of(profile(2, "")).is_err());
    assert!(of(profile(0, "/etc/x")).is_err());
    assert!(of(profile(7, "")).is_err());
    let made = of(profile(2, "/etc/x")).expect("it makes sense");
    assert_eq!(made.security.seccomp, SecurityProfile::Localhost("/etc/x".to_owned()));
}

#[test]
fn the_name_of_an_apparmor_profile_may_be_written_as_in_the_older_field() {
    let named = |name: &str| {
        let apparmor = v1::SecurityProfile { profile_type: 2, localhost_ref: name.to_owned() };
        let context = v1::LinuxContainerSecurityContext {
            apparmor: Some(apparmor),
            ..v1::LinuxContainerSecurityContext::default()
        };
        container(with_security(context), &SandboxConfig::default())
    };
    for name in ["localhost/web", "web"] {
        let made = named(name).expect("it makes sense");
        assert_eq!(made.security.apparmor, SecurityProfile::Localhost("web".to_owned()));
    }
    assert!(named("localhost/").is_err());
}

#[test]
fn recursive_read_only_goes_only_with_read_only_and_private() {
    let with = |readonly, propagation: v1::MountPropagation| {
        let mount = v1::Mount {
            readonly,
            recursive_read_only: true,
            propagation: propagation.into(),
            ..mount()
        };
        container(with_mount(mount), &SandboxConfig::default())
    };
    use v1::MountPropagation::{PropagationHostToContainer, PropagationPrivate};
    assert!(with(true, PropagationPrivate).is_ok());
    assert!(with(false, PropagationPrivate).is_err());
    assert!(with(true, PropagationHostToContainer).is_err());
}

#[test]
fn mounts_towards_the_node_are_for_privileged_containers() {
    let shared = v1::Mount { propagation: 2, ..mount() };
    assert!(container(with_mount(shared), &SandboxConfig::default()).is_err());
    let slave = v1::Mount { propagation: 1, ..mount() };
    let made = container(with_mount(slave), &SandboxConfig::default()).expect("it makes sense");
    assert_eq!(made.mounts[0].propagation, Propagation::HostToContainer);
}

#[test]
fn an_image_is_mounted_read_only_and_instead_of_a_path() {
    let image = || v1::Mount {
        host_path: String::new(),
        image: Some(v1::ImageSpec { image: "a".to_owned(), ..v1::ImageSpec::default() }),
        readonly: true,
        image_sub_path: "b/c".to_owned(),
        ..mount()
    };
    let of = |mount| container(with_mount(mount), &SandboxConfig::default());
    let made = of(image()).expect("it makes sense");
    assert!(
        matches!(&made.mounts[0].source, MountSource::Image { sub_path, .. } if sub_path == "b/c")
    );
    assert!(of(v1::Mount { readonly: false, ..image() }).is_err());
    assert!(of(v1::Mount { host_path: "/x".to_owned(), ..image() }).is_err());
    assert!(of(v1::Mount { image_sub_path: "../c".to_owned(), ..image() }).is_err());
}

#[test]
fn a_log_file_stays_in_its_folder() {
    for path in ["/etc/passwd", "../x", "a/../../b"] {
        let config = v1::ContainerConfig { log_path: path.to_owned(), ..plain() };
        assert!(container(config, &SandboxConfig::default()).is_err(), "{path}");
    }
}

#[test]
fn processes_may_be_shared_with_another_container() {
    let options = |pid, target: &str| v1::LinuxContainerSecurityContext {
        namespace_options: Some(v1::NamespaceOption {
            pid,
            target_id: target.to_owned(),
            ..v1::NamespaceOption::default()
        }),
        ..v1::LinuxContainerSecurityContext::default()
    };
    let of = |context| container(with_security(context), &SandboxConfig::default());
    let made = of(options(3, "abc")).expect("it makes sense");
    assert_eq!(made.namespaces.pid, NamespaceMode::Target("abc".to_owned()));
    assert!(of(options(3, "")).is_err());
    assert!(of(options(2, "")).is_err(), "the sandbox does not have the node's processes");
}

#[test]
fn limits_of_zero_are_not_given_and_nonsense_is_refused() {
    let made = resources("r", v1::LinuxContainerResources::default()).expect("it makes sense");
    assert_eq!(made.memory_limit_bytes, None);
    assert_eq!(made.cpu_quota_us, None);
    let wrong = [
        v1::LinuxContainerResources { oom_score_adj: 5000, ..Default::default() },
        v1::LinuxContainerResources { memory_limit_in_bytes: -7, ..Default::default() },
        v1::LinuxContainerResources { cpuset_cpus: "0-x".to_owned(), ..Default::default() },
        v1::LinuxContainerResources {
            unified: [("../memory.max".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        },
        v1::LinuxContainerResources {
            unified: [("cgroup.kill".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        },
    ];
    for wrong in wrong {
        assert!(resources("r", wrong.clone()).is_err(), "{wrong:?}");
    }
}
