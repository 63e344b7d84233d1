//! Golden specs: what `ingot-runc` is told, to the letter, and the rules behind it.

use std::collections::BTreeSet;

use expect_test::{expect, expect_file};

use super::*;
use crate::pod::{Resources, Security, Volume, VolumeKind, VolumeMount};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web:/people/web:/bin/false\n";
const GROUP: &str = "root:x:0:\nwww:x:1001:\nlogs:x:50:web,other\nmedia:x:60:other,web\n";

fn image() -> ImageConfig {
    ImageConfig {
        user: String::new(),
        env: vec!["LANG=C".into(), "MODE=image".into()],
        entrypoint: vec!["/workload".into()],
        cmd: vec!["sleep".into()],
        working_dir: String::new(),
    }
}

fn container() -> Container {
    let security = Security { allow_privilege_escalation: true, ..Security::default() };
    Container {
        name: "main".into(),
        image: "ingot/workload".into(),
        security,
        ..Container::default()
    }
}

fn build_with(
    pod: &Pod,
    container: &Container,
    image: &ImageConfig,
) -> Result<Value, ProcessError> {
    let user = find_user(container, &image.user, PASSWD, GROUP)?;
    build(&Input {
        pod,
        container,
        image,
        user: &user,
        rootfs: Path::new("/run/ingot/containers/ID/rootfs"),
        cgroup: "/pods/UID/ID",
        namespaces: Path::new("/run/ingot/pods/UID/ns"),
        etc: Path::new("/run/ingot/pods/UID/etc"),
        shm: Path::new("/run/ingot/pods/UID/shm"),
        node_memory_bytes: 1 << 30,
        volumes: &[("data".into(), "/var/lib/ingot/pods/UID/volumes/data".into())],
    })
}

fn spec(container: &Container) -> Value {
    let pod = Pod { name: "web".into(), ..Pod::default() };
    build_with(&pod, container, &image()).unwrap()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[test]
fn a_plain_container_looks_like_this() {
    expect_file!["golden/plain.json"].assert_eq(&pretty(&spec(&container())));
}

#[test]
fn a_container_with_everything_looks_like_this() {
    let everything = Container {
        command: vec!["/bin/server".into()],
        args: vec!["--name=$(NAME)".into(), "$$(NAME)".into(), "$(UNKNOWN)".into()],
        env: vec![("NAME".into(), "a$(MODE)".into()), ("MODE".into(), "pod".into())],
        working_dir: "/srv".into(),
        mounts: vec![VolumeMount {
            volume: "data".into(),
            path: "/data".into(),
            read_only: true,
            sub_path: "inner".into(),
        }],
        security: Security {
            run_as_user: Some(1000),
            read_only_root: true,
            capabilities_add: vec!["NET_ADMIN".into()],
            capabilities_drop: vec!["ALL".into()],
            ..Security::default()
        },
        ..container()
    };
    let pod = Pod {
        name: "web".into(),
        hostname: "other".into(),
        host_network: true,
        volumes: vec![Volume {
            name: "data".into(),
            kind: VolumeKind::EmptyDir { size_limit_bytes: None },
        }],
        ..Pod::default()
    };
    let mut spec = build_with(&pod, &everything, &image()).unwrap();
    // The same as in the plain one.
    spec["linux"].as_object_mut().unwrap().remove("seccomp");
    expect_file!["golden/everything.json"].assert_eq(&pretty(&spec));
}

#[test]
fn a_privileged_container_has_everything_and_nothing_hidden() {
    let security = Security { privileged: true, ..Security::default() };
    let spec = spec(&Container { security, ..container() });
    for hidden in ["maskedPaths", "readonlyPaths", "seccomp"] {
        assert!(spec["linux"].get(hidden).is_none(), "{hidden}");
    }
    let bounding = spec["process"]["capabilities"]["bounding"].as_array().unwrap();
    assert_eq!(bounding.len(), ALL_CAPABILITIES.len());
    assert!(spec["process"].get("noNewPrivileges").is_none());
}

#[test]
fn no_new_privileges_is_never_written_as_false() {
    assert!(spec(&container())["process"].get("noNewPrivileges").is_none());
    let security = Security { allow_privilege_escalation: false, ..Security::default() };
    let closed = spec(&Container { security, ..container() });
    assert_eq!(closed["process"]["noNewPrivileges"], Value::Bool(true));
}

#[test]
fn capabilities_are_dropped_before_they_are_added() {
    let with = |drop: &[&str], add: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let security = Security {
            capabilities_drop: owned(drop),
            capabilities_add: owned(add),
            ..Security::default()
        };
        capabilities(&Container { security, ..container() })
    };
    assert_eq!(with(&["ALL"], &[]), Vec::<String>::new());
    assert_eq!(
        with(&["ALL"], &["NET_BIND_SERVICE", "CAP_CHOWN"]),
        ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]
    );
    assert!(!with(&["mknod"], &[]).contains(&"CAP_MKNOD".to_owned()));
    assert_eq!(with(&[], &["ALL"]).len(), ALL_CAPABILITIES.len());
    let unknown = with(&[], &["NO_SUCH_THING"]);
    assert_eq!(unknown.len(), DEFAULT_CAPABILITIES.len());
}

#[test]
fn the_program_follows_the_table_of_kubernetes() {
    let args = |command: &[&str], args: &[&str]| {
        let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        let container = Container { command: owned(command), args: owned(args), ..container() };
        spec(&container)["process"]["args"].clone()
    };
    assert_eq!(args(&[], &[]), json!(["/workload", "sleep"]));
    assert_eq!(args(&[], &["spin"]), json!(["/workload", "spin"]));
    assert_eq!(args(&["/x"], &[]), json!(["/x"]));
    assert_eq!(args(&["/x"], &["y"]), json!(["/x", "y"]));
}

#[test]
fn a_node_out_of_memory_takes_those_first_who_asked_for_nothing() {
    let score = |cpu: Option<u64>, limit: Option<u64>, request: Option<u64>| {
        let resources = Resources {
            cpu_limit_millis: cpu,
            cpu_request_millis: cpu,
            memory_limit_bytes: limit,
            memory_request_bytes: request,
        };
        let container = Container { resources, ..container() };
        spec(&container)["process"]["oomScoreAdj"].as_i64().unwrap()
    };
    assert_eq!(score(None, None, None), 1000);
    assert_eq!(score(Some(100), Some(1 << 20), Some(1 << 20)), -997);
    assert_eq!(score(Some(100), None, None), 999);
    assert_eq!(score(None, None, Some(1 << 28)), 750);
    assert_eq!(score(None, None, Some(1 << 34)), 3);
}

#[test]
fn users_are_found_by_name_and_by_number() {
    let find = |image_user: &str| find_user(&container(), image_user, PASSWD, GROUP);
    let user = find("web").unwrap();
    assert_eq!((user.uid, user.gid, user.home.as_str()), (1000, 1001, "/people/web"));
    assert_eq!(user.additional_gids, [50, 60]);
    assert_eq!(find("1000").unwrap(), user);
    assert_eq!(find("web:logs").unwrap().gid, 50);
    let stranger = find("4242").unwrap();
    assert_eq!((stranger.uid, stranger.gid, stranger.home.as_str()), (4242, 0, "/"));
    assert_eq!(find("nobody"), Err(ProcessError::NoUser { user: "nobody".into() }));
    assert_eq!(find("web:none"), Err(ProcessError::NoGroup { group: "none".into() }));
}

#[test]
fn what_cannot_be_described_is_refused() {
    let pod = Pod::default();
    let nothing = ImageConfig::default();
    let error = build_with(&pod, &container(), &nothing).unwrap_err();
    expect!["neither the pod nor the image says what to execute; set command"]
        .assert_eq(&error.to_string());
    let mount = VolumeMount { volume: "gone".into(), path: "/x".into(), ..VolumeMount::default() };
    let error = build_with(&pod, &Container { mounts: vec![mount], ..container() }, &image());
    assert_eq!(error, Err(ProcessError::NoVolume { volume: "gone".into() }));
}

#[test]
fn the_default_profile_refuses_what_breaks_out_and_allows_what_programs_need() {
    let spec = spec(&container());
    let rules = spec["linux"]["seccomp"]["syscalls"].as_array().unwrap();
    let always: BTreeSet<&str> = rules
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule.get("args").is_none())
        .flat_map(|rule| rule["names"].as_array().unwrap())
        .filter_map(Value::as_str)
        .collect();
    for name in ["read", "execve", "futex", "openat2", "epoll_pwait2", "clock_gettime", "chroot"] {
        assert!(always.contains(name), "{name} is refused");
    }
    for name in [
        "mount",
        "umount2",
        "bpf",
        "setns",
        "unshare",
        "init_module",
        "kexec_load",
        "reboot",
        "swapon",
        "keyctl",
        "add_key",
        "request_key",
        "userfaultfd",
        "io_uring_setup",
        "open_by_handle_at",
        "pivot_root",
        "perf_event_open",
        "clone",
        "clone3",
        "socket",
    ] {
        assert!(!always.contains(name), "{name} is allowed");
    }
}

#[test]
fn every_spec_is_one_that_the_oci_types_understand() {
    let text = spec(&container()).to_string();
    let parsed: oci_spec::runtime::Spec = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 6);
    assert_eq!(parsed.mounts().as_ref().unwrap().len(), 10);
}
