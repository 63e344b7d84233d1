//! What the program gets is what the container has, and nothing else.

use ingot_runc_api::{Created, Stdio};

use super::*;

const SPEC: &str = r#"{
  "ociVersion": "1.2.0",
  "root": { "path": "rootfs" },
  "process": {
    "user": { "uid": 4294967294, "gid": 7, "additionalGids": [20, 30] },
    "args": ["/server"], "cwd": "/data",
    "env": ["PATH=/opt/bin::/bin", "HOME=/data", "A=1"],
    "capabilities": { "bounding": ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"], "permitted": ["CAP_CHOWN"] },
    "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 18446744073709551615 }],
    "oomScoreAdj": 1000, "noNewPrivileges": true
  },
  "linux": {}
}"#;

fn request(command: &[&str], environment: &[&str]) -> Exec {
    Exec {
        bundle: "/nowhere".into(),
        filters: "/nowhere".into(),
        process: Created { pid: 1, start_time: 1 },
        cgroup: "/nowhere".into(),
        command: command.iter().map(|s| (*s).to_owned()).collect(),
        environment: environment.iter().map(|s| (*s).to_owned()).collect(),
        stdio: Stdio::All,
        size: None,
        record: "/nowhere".into(),
    }
}

fn parsed(spec: &str) -> Spec {
    Spec::parse(spec.as_bytes()).expect("spec")
}

fn text(strings: &[CString]) -> Vec<&str> {
    strings.iter().filter_map(|s| s.to_str().ok()).collect()
}

#[test]
fn user_rights_and_limits_are_the_containers() {
    let plan = Plan::new(parsed(SPEC), None, &request(&["/bin/true"], &[])).expect("plan");
    assert_eq!((plan.rights.uid, plan.rights.gid), (u32::MAX - 1, 7));
    assert_eq!(plan.umask, 0o022);
    assert_eq!(plan.oom_score_adj, Some(1000));
    let (resource, limit) = plan.limits.first().expect("limit");
    assert!(matches!(resource, Resource::Nofile));
    assert_eq!((limit.current, limit.maximum), (Some(10), None));
}

#[test]
fn a_program_without_a_slash_is_looked_up_in_the_containers_path() {
    let plan = Plan::new(parsed(SPEC), None, &request(&["ls", "-l"], &[])).expect("plan");
    assert_eq!(text(&plan.places), ["/opt/bin/ls", "./ls", "/bin/ls"]);
    assert_eq!(text(&plan.arguments), ["ls", "-l"]);
    let plan = Plan::new(parsed(SPEC), None, &request(&["./ls"], &[])).expect("plan");
    assert_eq!(text(&plan.places), ["./ls"]);
}

#[test]
fn variables_asked_for_replace_the_containers() {
    let request = request(&["env"], &["TERM=xterm", "A=2"]);
    let plan = Plan::new(parsed(SPEC), None, &request).expect("plan");
    let expected = ["A=2", "HOME=/data", "PATH=/opt/bin::/bin", "TERM=xterm"];
    assert_eq!(text(&plan.environment), expected);
}

#[test]
fn an_environment_file_with_any_bytes_takes_the_place_of_the_specs() {
    let plan =
        Plan::new(parsed(SPEC), Some(b"B=\xff\xfe\0C=a=b\0"), &request(&["x"], &[])).expect("plan");
    let bytes: Vec<&[u8]> = plan.environment.iter().map(|s| s.as_bytes()).collect();
    assert_eq!(bytes, [&b"B=\xff\xfe"[..], b"C=a=b"]);
    // Without a PATH the usual folders are searched.
    assert_eq!(text(&plan.places).last(), Some(&"/bin/x"));
}

#[test]
fn what_cannot_be_understood_starts_nothing() {
    for command in [&[][..], &[""], &["a\0b"]] {
        assert!(Plan::new(parsed(SPEC), None, &request(command, &[])).is_err());
    }
    for (from, to) in
        [("CAP_CHOWN", "CAP_NEW"), ("RLIMIT_NOFILE", "RLIMIT_NEW"), ("\"uid\"", "\"u\"")]
    {
        let spec = SPEC.replace(from, to);
        let plan = Spec::parse(spec.as_bytes())
            .and_then(|spec| Plan::new(spec, None, &request(&["x"], &[])));
        assert!(plan.is_err(), "{to}");
    }
}
