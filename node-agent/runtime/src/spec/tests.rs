//! Golden specs: what `ingot-runc` is told, to the letter, and the rules behind it.

use std::collections::BTreeSet;

use expect_test::{expect, expect_file};

use super::*;
use crate::config::{
    IdMapping, Mount, MountSource, NamespaceOptions, Propagation, Resources, Security,
    UserNamespace,
};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web:/people/web:/bin/false\n";
const GROUP: &str = "root:x:0:\nwww:x:1001:\nlogs:x:50:web,other\nmedia:x:60:other,web\n";
const ACCOUNTS: Accounts<'_> = Accounts { passwd: PASSWD, group: GROUP };

fn image() -> ImageConfig {
    ImageConfig {
        env: vec!["LANG=C".into(), "MODE=image".into()],
        entrypoint: vec!["/workload".into()],
        cmd: vec!["sleep".into()],
        ..ImageConfig::default()
    }
}

fn sandbox() -> SandboxConfig {
    let namespaces =
        NamespaceOptions { pid: NamespaceMode::Container, ..NamespaceOptions::default() };
    SandboxConfig { hostname: "web".into(), namespaces, ..SandboxConfig::default() }
}

fn container() -> ContainerConfig {
    let security = Security { seccomp: SecurityProfile::RuntimeDefault, ..Security::default() };
    ContainerConfig {
        name: "main".into(),
        security,
        namespaces: sandbox().namespaces,
        ..ContainerConfig::default()
    }
}

fn secured(security: Security) -> ContainerConfig {
    ContainerConfig { security, ..container() }
}

fn describe_with(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    image: &ImageConfig,
    change: impl FnOnce(&mut Input<'_>),
) -> Result<Described, SpecError> {
    let user = find_user(&config.security, &image.user, ACCOUNTS)?;
    let images = [("tools:1".to_owned(), vec![PathBuf::from("/layers/tools")])];
    let mut input = Input {
        sandbox,
        config,
        image,
        user: &user,
        rootfs: Path::new("/run/ingot/containers/ID/rootfs"),
        cgroup: "/pods/UID/ID",
        namespaces: Path::new("/run/ingot/pods/UID/ns"),
        target_pid: None,
        etc: Path::new("/run/ingot/pods/UID/shared/etc"),
        shm: Path::new("/run/ingot/pods/UID/shared/shm"),
        volumes: Path::new("/run/ingot/pods/UID/volumes"),
        stage: Path::new("/run/ingot/containers/ID/stage"),
        images: &images,
        devices: &[],
        apparmor: None,
        seccomp: None,
    };
    change(&mut input);
    build(&input)
}

fn describe(config: &ContainerConfig) -> Result<Described, SpecError> {
    describe_with(&sandbox(), config, &image(), |_| {})
}

fn spec(config: &ContainerConfig) -> Value {
    describe(config).unwrap().spec
}

fn in_sandbox(namespaces: NamespaceOptions, config: &ContainerConfig) -> Value {
    let config = ContainerConfig { namespaces: namespaces.clone(), ..config.clone() };
    let sandbox = SandboxConfig { namespaces, ..sandbox() };
    describe_with(&sandbox, &config, &image(), |_| {}).unwrap().spec
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn host(at: &str) -> Mount {
    Mount {
        container_path: at.into(),
        source: MountSource::Host("/srv".into()),
        ..Mount::default()
    }
}

fn mounted(mount: Mount) -> ContainerConfig {
    ContainerConfig { mounts: vec![mount], ..container() }
}

fn kinds(spec: &Value) -> Vec<(String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let list = spec["linux"]["namespaces"].as_array().unwrap();
    list.iter().map(|n| (text(&n["type"]).unwrap(), text(&n["path"]))).collect()
}

#[test]
fn a_plain_container_looks_like_this() {
    expect_file!["golden/plain.json"].assert_eq(&pretty(&spec(&container())));
}

fn default_profile() -> Value {
    let Described { seccomp, spec, .. } = describe(&container()).unwrap();
    let profile = seccomp.unwrap();
    assert_eq!(spec["linux"]["seccomp"], profile.digest);
    serde_json::from_str(&profile.text).unwrap()
}

#[test]
fn the_default_profile_of_system_calls_looks_like_this() {
    expect_file!["golden/seccomp.json"].assert_eq(&pretty(&default_profile()));
}

#[test]
fn a_container_with_everything_looks_like_this() {
    let volume = |at: &str, source| Mount { container_path: at.into(), source, ..Mount::default() };
    let everything = ContainerConfig {
        command: vec!["/bin/server".into()],
        args: vec!["--name".into()],
        env: vec![("MODE".into(), b"pod".to_vec()), ("RAW".into(), b"\xff".to_vec())],
        working_dir: "/srv/".into(),
        tty: true,
        mounts: vec![
            volume("/data/inner", MountSource::Tmpfs(Some(4096))),
            Mount {
                read_only: true,
                ..volume(
                    "/data",
                    MountSource::Inside { root: "/volumes/data".into(), sub_path: "sub".into() },
                )
            },
            volume("/cache", MountSource::Memory { name: "cache".into(), sub_path: String::new() }),
            volume(
                "/tools",
                MountSource::Image { image: "tools:1".into(), sub_path: "bin".into() },
            ),
            volume("/etc/hosts", MountSource::Host("/var/lib/kubelet/hosts".into())),
        ],
        resources: Resources { oom_score_adj: Some(-997), ..Resources::default() },
        security: Security {
            run_as_user: Some(1000),
            supplemental_groups: vec![7],
            read_only_root: true,
            capabilities_add: owned(&["NET_ADMIN"]),
            capabilities_drop: owned(&["ALL"]),
            capabilities_ambient: owned(&["NET_ADMIN"]),
            no_new_privileges: true,
            masked_paths: Some(owned(&["/proc/kcore"])),
            read_only_paths: Some(Vec::new()),
            ..Security::default()
        },
        ..container()
    };
    let sandbox =
        SandboxConfig { memory_volumes: [("cache".to_owned(), Some(1 << 20))].into(), ..sandbox() };
    let described =
        describe_with(&sandbox, &everything, &image(), |i| i.apparmor = Some("web")).unwrap();
    expect_file!["golden/everything.json"].assert_eq(&pretty(&described.spec));
    expect_file!["golden/everything-mounts.txt"]
        .assert_eq(&format!("{:#?}\n", described.mounts.staged));
    assert_eq!(described.environment.last(), Some(&("RAW".to_owned(), b"\xff".to_vec())));
    assert_eq!(described.spec["process"]["cwd"], "/srv");
}

#[test]
fn a_container_that_asks_for_no_score_does_not_inherit_the_agents() {
    let config = ContainerConfig { resources: Resources::default(), ..container() };
    assert_eq!(spec(&config)["process"]["oomScoreAdj"], 0);
}

#[test]
fn a_privileged_container_has_everything_and_nothing_hidden() {
    let spec = spec(&secured(Security { privileged: true, ..container().security }));
    for hidden in ["maskedPaths", "readonlyPaths", "seccomp"] {
        assert!(spec["linux"].get(hidden).is_none(), "{hidden}");
    }
    let bounding = spec["process"]["capabilities"]["bounding"].as_array().unwrap();
    assert_eq!(bounding.len(), capabilities::ALL.len());
    assert!(spec["process"].get("noNewPrivileges").is_none());
}

#[test]
fn no_new_privileges_is_never_written_as_false() {
    assert!(spec(&container())["process"].get("noNewPrivileges").is_none());
    let closed = spec(&secured(Security { no_new_privileges: true, ..Security::default() }));
    assert_eq!(closed["process"]["noNewPrivileges"], Value::Bool(true));
}

#[test]
fn capabilities_are_dropped_before_they_are_added() {
    let with = |drop: &[&str], add: &[&str]| {
        let security = Security {
            capabilities_drop: owned(drop),
            capabilities_add: owned(add),
            ..Security::default()
        };
        capabilities::of(&security).map(|sets| sets.bounding)
    };
    assert_eq!(with(&["ALL"], &[]).unwrap(), Vec::<String>::new());
    assert_eq!(
        with(&["ALL"], &["NET_BIND_SERVICE", "CAP_CHOWN"]).unwrap(),
        ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]
    );
    assert!(!with(&["mknod"], &[]).unwrap().contains(&"CAP_MKNOD".to_owned()));
    let all_but_one = with(&["MKNOD"], &["ALL"]).unwrap();
    assert_eq!(all_but_one.len(), capabilities::ALL.len() - 1);
    assert_eq!(
        with(&[], &["NO_SUCH_THING"]).unwrap_err(),
        capabilities::Unknown("NO_SUCH_THING".into())
    );
}

#[test]
fn cve_2022_29162_nothing_is_inheritable_unless_it_was_asked_for() {
    for user in [0, 1000] {
        let plain = spec(&secured(Security { run_as_user: Some(user), ..Security::default() }));
        for set in ["inheritable", "ambient"] {
            assert_eq!(plain["process"]["capabilities"][set], json!([]), "{set} of {user}");
        }
    }
    let ambient = spec(&secured(Security {
        run_as_user: Some(1000),
        capabilities_ambient: owned(&["NET_BIND_SERVICE", "SYS_ADMIN"]),
        ..Security::default()
    }));
    // Only what it may have at all.
    for set in ["inheritable", "ambient", "effective", "permitted"] {
        let expected = json!(["CAP_NET_BIND_SERVICE"]);
        assert_eq!(ambient["process"]["capabilities"][set], expected, "{set}");
    }
}

#[test]
fn the_program_follows_the_table_of_kubernetes() {
    let args = |command: &[&str], args: &[&str]| {
        let config = ContainerConfig { command: owned(command), args: owned(args), ..container() };
        spec(&config)["process"]["args"].clone()
    };
    assert_eq!(args(&[], &[]), json!(["/workload", "sleep"]));
    assert_eq!(args(&[], &["spin"]), json!(["/workload", "spin"]));
    assert_eq!(args(&["/x"], &[]), json!(["/x"]));
    assert_eq!(args(&["/x"], &["y"]), json!(["/x", "y"]));
}

#[test]
fn users_are_found_by_name_and_by_number() {
    let find = |image_user: &str| find_user(&Security::default(), image_user, ACCOUNTS);
    let user = find("web").unwrap();
    assert_eq!((user.uid, user.gid, user.home.as_str()), (1000, 1001, "/people/web"));
    assert_eq!(user.groups, [1001, 50, 60]);
    assert_eq!(find("1000").unwrap(), user);
    assert_eq!(find("web:logs").unwrap().groups, [50, 60]);
    let stranger = find("4242").unwrap();
    assert_eq!((stranger.uid, stranger.gid, stranger.home.as_str()), (4242, 0, "/"));
    assert_eq!(find("nobody"), Err(SpecError::NoUser { user: "nobody".into() }));
    assert_eq!(find("web:none"), Err(SpecError::NoGroup { group: "none".into() }));
    let by_name = Security { run_as_username: "web".into(), ..Security::default() };
    assert_eq!(find_user(&by_name, "root:root", ACCOUNTS).unwrap(), user);
}

#[test]
fn cve_2022_2995_all_groups_of_a_user_are_set_or_only_those_that_were_asked_for() {
    let security = |strict| Security {
        run_as_user: Some(1000),
        run_as_group: Some(3000),
        supplemental_groups: vec![60, 4000],
        supplemental_groups_strict: strict,
        ..Security::default()
    };
    let groups = |strict| find_user(&security(strict), "", ACCOUNTS).unwrap().groups;
    assert_eq!(groups(false), [3000, 50, 60, 4000]);
    assert_eq!(groups(true), [3000, 60, 4000]);
}

#[test]
fn cve_2024_40635_an_id_that_is_none_is_refused_and_never_wraps_to_root() {
    let find = |image_user: &str| find_user(&Security::default(), image_user, ACCOUNTS);
    assert_eq!(find("4294967295"), Err(SpecError::NoId));
    assert_eq!(find("0:4294967295"), Err(SpecError::NoId));
    for wrapped in ["4294967296", "-1", "18446744073709551616"] {
        assert!(matches!(find(wrapped), Err(SpecError::NoUser { .. })), "{wrapped}");
    }
    assert_eq!(find("2147483648").unwrap().uid, 2_147_483_648);
}

#[test]
fn cve_2026_46680_a_number_is_never_looked_up_as_a_name() {
    let trap = Accounts { passwd: "1000:x:0:0::/root:/bin/sh\n", group: "" };
    assert_eq!(find_user(&Security::default(), "1000", trap).unwrap().uid, 1000);
}

#[test]
fn cve_2022_4318_a_home_folder_cannot_carry_a_second_variable() {
    let trap = Accounts { passwd: "root:x:0:0::/root\rEVIL=1:/bin/sh\n", group: "" };
    let user = find_user(&Security::default(), "", trap).unwrap();
    let security = Security { run_as_user: Some(user.uid), ..Security::default() };
    let described = describe(&secured(security)).unwrap();
    assert!(user.home.starts_with("/root"));
    let names: Vec<&str> = described.environment.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["PATH", "LANG", "MODE", "HOSTNAME", "HOME"]);
}

#[test]
fn what_cannot_be_described_is_refused() {
    let nothing = ImageConfig::default();
    let error = describe_with(&sandbox(), &container(), &nothing, |_| {}).unwrap_err();
    expect!["neither the pod nor the image says what to execute; set command"]
        .assert_eq(&error.to_string());
    let gone = MountSource::Memory { name: "gone".into(), sub_path: String::new() };
    let error = describe(&mounted(Mount { source: gone, ..host("/x") })).unwrap_err();
    assert_eq!(error, SpecError::NoVolume { volume: "gone".into() });
    let gone = MountSource::Image { image: "gone:1".into(), sub_path: String::new() };
    let error = describe(&mounted(Mount { source: gone, ..host("/x") })).unwrap_err();
    assert_eq!(error, SpecError::NoImage { image: "gone:1".into() });
    for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y")] {
        let env = vec![(name.to_owned(), value.as_bytes().to_vec())];
        let error = describe(&ContainerConfig { env, ..container() });
        assert!(matches!(error, Err(SpecError::Environment { .. })), "{name:?}");
    }
    let args = vec!["a\0b".to_owned()];
    assert_eq!(
        describe(&ContainerConfig { args, ..container() }).unwrap_err(),
        SpecError::Arguments
    );
}

#[test]
fn cve_2019_16884_nothing_is_mounted_over_proc_or_the_root() {
    for at in ["/proc", "/proc/", "//proc/self/attr", "/./proc/sys", "/"] {
        let error = describe(&mounted(host(at))).map(|_| ()).unwrap_err();
        assert!(matches!(error, SpecError::MountPoint { .. }), "{at}: {error}");
    }
    for at in ["relative", "/a/../proc", "/a/..", "", "/a\0b"] {
        let error = describe(&mounted(host(at))).map(|_| ()).unwrap_err();
        assert!(matches!(error, SpecError::Path { .. }), "{at}: {error}");
    }
}

#[test]
fn cve_2017_1002101_a_sub_path_never_goes_up() {
    for sub_path in ["..", "a/../..", "/etc", "a\0"] {
        let sub_path = sub_path.to_owned();
        let source = MountSource::Inside { root: "/volumes/data".into(), sub_path };
        let error = describe(&mounted(Mount { source, ..host("/x") })).map(|_| ()).unwrap_err();
        assert!(matches!(error, SpecError::Path { .. }), "{error}");
    }
}

#[test]
fn cve_2024_21626_the_working_folder_is_never_a_descriptor_of_the_runtime() {
    for folder in ["/proc/self/fd/7", "/proc/self/fd/7/../../..", "//proc/1/cwd", "proc", "/a/.."] {
        let of_pod = ContainerConfig { working_dir: folder.into(), ..container() };
        let of_image = ImageConfig { working_dir: folder.into(), ..image() };
        for described in
            [describe(&of_pod), describe_with(&sandbox(), &container(), &of_image, |_| {})]
        {
            assert!(matches!(described, Err(SpecError::Path { .. })), "{folder}");
        }
    }
}

#[test]
fn a_mount_does_not_hide_one_that_is_deeper() {
    let mounts = ["/a/b/c", "/a", "/a/b"].map(host).to_vec();
    let described = describe(&ContainerConfig { mounts, ..container() }).unwrap();
    let mounts = described.spec["mounts"].as_array().unwrap();
    let places: Vec<_> =
        mounts.iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
    assert_eq!(places[places.len() - 3..], ["/a", "/a/b", "/a/b/c"]);
}

#[test]
fn what_a_caller_mounts_takes_the_place_of_what_every_container_has() {
    let list = spec(&mounted(host("/etc/hosts")));
    let at = |path: &str| {
        let all = list["mounts"].as_array().unwrap();
        all.iter().filter(|mount| mount["destination"] == path).count()
    };
    assert_eq!((at("/etc/hosts"), at("/etc/hostname"), at("/dev/shm")), (1, 1, 1));
}

#[test]
fn the_nodes_devices_are_mounted_over_the_containers_own_and_never_changed() {
    let described = describe(&mounted(host("/dev"))).unwrap();
    let mounts = described.spec["mounts"].as_array().unwrap();
    let at_dev: Vec<&Value> =
        mounts.iter().filter(|mount| mount["destination"] == "/dev").collect();
    assert_eq!(at_dev.len(), 1);
    assert_eq!(at_dev[0]["type"], "tmpfs");
    assert_eq!(described.mounts.late, [(0, "/dev".to_owned())]);
}

#[test]
fn recursive_read_only_needs_read_only_and_no_propagation() {
    let mount = |read_only, propagation| Mount {
        read_only,
        recursive_read_only: true,
        propagation,
        ..host("/x")
    };
    assert!(describe(&mounted(mount(true, Propagation::Private))).is_ok());
    for (read_only, propagation) in [
        (false, Propagation::Private),
        (true, Propagation::HostToContainer),
        (true, Propagation::Bidirectional),
    ] {
        let privileged = ContainerConfig {
            security: Security { privileged: true, ..Security::default() },
            ..mounted(mount(read_only, propagation))
        };
        let refused = describe(&privileged).map(|_| ());
        assert!(matches!(refused, Err(SpecError::RecursiveReadOnly { .. })), "{propagation:?}");
    }
}

#[test]
fn only_privileged_containers_give_mounts_to_the_node() {
    let both = || mounted(Mount { propagation: Propagation::Bidirectional, ..host("/x") });
    assert!(matches!(describe(&both()), Err(SpecError::Bidirectional { .. })));
    let security = Security { privileged: true, ..Security::default() };
    let privileged = ContainerConfig { security, ..both() };
    assert_eq!(spec(&privileged)["linux"]["rootfsPropagation"], "shared");
    let one_way = Mount { propagation: Propagation::HostToContainer, ..host("/x") };
    assert_eq!(spec(&mounted(one_way))["linux"]["rootfsPropagation"], "slave");
}

fn user_namespace() -> NamespaceOptions {
    let range = IdMapping { container_id: 0, host_id: 65_536, length: 65_536 };
    NamespaceOptions {
        user: Some(UserNamespace { uids: range, gids: range }),
        ..sandbox().namespaces
    }
}

#[test]
fn namespaces_are_joined_made_or_left_as_asked() {
    let has = |spec: &Value, kind: &str| {
        kinds(spec).into_iter().find(|(name, _)| name == kind).map(|(_, path)| path)
    };
    let ns = |file: &str| Some(Some(format!("/run/ingot/pods/UID/ns/{file}")));
    let plain = spec(&container());
    assert_eq!(has(&plain, "pid"), Some(None));
    assert_eq!((has(&plain, "network"), has(&plain, "ipc")), (ns("net"), ns("ipc")));
    assert_eq!((has(&plain, "uts"), has(&plain, "user")), (ns("uts"), None));
    let mode = |pid: NamespaceMode| NamespaceOptions { pid, ..NamespaceOptions::default() };
    let shared = in_sandbox(mode(NamespaceMode::Pod), &container());
    assert_eq!(has(&shared, "pid"), ns("pid"));
    assert_eq!(has(&in_sandbox(mode(NamespaceMode::Node), &container()), "pid"), None);
    let of_node = in_sandbox(
        NamespaceOptions {
            network: NamespaceMode::Node,
            ipc: NamespaceMode::Node,
            ..NamespaceOptions::default()
        },
        &container(),
    );
    assert_eq!((has(&of_node, "network"), has(&of_node, "ipc")), (None, None));
    assert_eq!(has(&in_sandbox(user_namespace(), &container()), "user"), ns("user"));
    let target =
        ContainerConfig { namespaces: mode(NamespaceMode::Target("cafe".into())), ..container() };
    let joined = describe_with(&sandbox(), &target, &image(), |input| {
        input.target_pid = Some(Path::new("/proc/7/ns/pid"));
    });
    let joined = joined.unwrap().spec;
    assert_eq!(has(&joined, "pid"), Some(Some("/proc/7/ns/pid".to_owned())));
}

#[test]
fn cve_2023_25809_every_container_has_a_cgroup_namespace_and_cannot_write_the_tree() {
    for namespaces in [sandbox().namespaces, user_namespace()] {
        let spec = in_sandbox(namespaces, &container());
        assert!(kinds(&spec).contains(&("cgroup".to_owned(), None)));
        let mounts = spec["mounts"].as_array().unwrap();
        let tree = mounts.iter().find(|m| m["destination"] == "/sys/fs/cgroup").unwrap();
        assert!(tree["options"].as_array().unwrap().contains(&json!("ro")));
    }
}

#[test]
fn ids_that_a_user_namespace_does_not_have_are_refused() {
    let sandbox = SandboxConfig { namespaces: user_namespace(), ..sandbox() };
    let run = |security: Security| {
        describe_with(&sandbox, &secured(security), &image(), |_| {}).map(|_| ())
    };
    assert_eq!(run(Security { run_as_user: Some(65_535), ..Security::default() }), Ok(()));
    let user = run(Security { run_as_user: Some(65_536), ..Security::default() });
    assert_eq!(user, Err(SpecError::NotMapped { id: 65_536 }));
    let group = run(Security { supplemental_groups: vec![70_000], ..Security::default() });
    assert_eq!(group, Err(SpecError::NotMapped { id: 70_000 }));
}

#[test]
fn cve_2023_2431_an_empty_seccomp_profile_is_not_no_profile() {
    let local = secured(Security {
        seccomp: SecurityProfile::Localhost("/profiles/x.json".into()),
        ..Security::default()
    });
    let with = |text: &'static str| {
        describe_with(&sandbox(), &local, &image(), |input| input.seccomp = Some(text))
            .map(|described| described.seccomp.unwrap().text.clone())
    };
    for wrong in ["", "{}", "[]", "null", r#"{"syscalls": []}"#] {
        assert!(matches!(with(wrong), Err(SpecError::Seccomp { .. })), "{wrong}");
    }
    let profile = with(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "syscalls": [
            {"names": ["clone"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 0, "value": 3, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#,
    )
    .unwrap();
    expect![[r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["clone"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#]]
        .assert_eq(&profile);
    assert!(spec(&secured(Security::default()))["linux"].get("seccomp").is_none());
}

#[test]
fn the_default_profile_refuses_what_breaks_out_and_allows_what_programs_need() {
    let profile = default_profile();
    let rules = profile["syscalls"].as_array().unwrap();
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
fn go_2023_2412_energy_counters_cannot_be_read() {
    let masked = &spec(&container())["linux"]["maskedPaths"];
    assert!(masked.as_array().unwrap().contains(&json!("/sys/devices/virtual/powercap")));
}

#[test]
fn every_spec_is_one_that_the_oci_types_understand() {
    let mut spec = spec(&container());
    spec["linux"]["seccomp"] = default_profile();
    let parsed: oci_spec::runtime::Spec = serde_json::from_value(spec).unwrap();
    assert_eq!(parsed.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 6);
    assert_eq!(parsed.mounts().as_ref().unwrap().len(), 10);
}
