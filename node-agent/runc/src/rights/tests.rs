//! Rights are given to a process as they are.

use serde_json::json;

use super::*;
use crate::seccomp::digest_of;

/// Allows everything.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;

/// Allows everything that is ever done here, but does not say so of what gives up capabilities.
const RELUCTANT: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{
        "names": ["capset"],
        "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]
    }]
}"#;

fn rights(more: serde_json::Value) -> anyhow::Result<Rights> {
    rights_with(PROFILE, more)
}

fn rights_with(profile: &str, more: serde_json::Value) -> anyhow::Result<Rights> {
    let mut process = json!({
        "user": {"uid": 0, "gid": 0, "additionalGids": [7]},
        "noNewPrivileges": true,
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]}
    });
    for (key, value) in more.as_object().unwrap() {
        process[key] = value.clone();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile");
    std::fs::write(&file, profile).unwrap();
    let source = Source { digest: &digest_of(profile.as_bytes()), file: &file };
    Rights::of(&serde_json::from_value(process).unwrap(), Some(source), folder.path())
}

#[test]
fn cve_2022_29162_what_is_not_named_stays_empty() {
    let rights = rights(json!({})).unwrap();
    assert_eq!(rights.bounding, CapabilitySet::CHOWN | CapabilitySet::KILL);
    assert_eq!(rights.sets.effective, CapabilitySet::CHOWN);
    assert!(rights.sets.inheritable.is_empty() && rights.ambient.is_empty());
    assert!(rights.no_new_privileges && rights.filter.is_some());
}

#[test]
fn a_capability_that_does_not_exist_is_refused() {
    assert!(rights(json!({"capabilities": {"bounding": ["CAP_FLY"]}})).is_err());
}

/// What a thread has after it took rights on: sets, whether it may have three others, its user, and all that the kernel says of
/// rights. `None` when this process has none to give up.
fn after(rights: Rights) -> Option<(CapabilitySets, [bool; 3], u32, String)> {
    // Rights are of a thread.
    let seen = std::thread::spawn(move || {
        let before = rustix::thread::capabilities(None).unwrap();
        let needed = CapabilitySet::CHOWN
            | CapabilitySet::SETPCAP
            | CapabilitySet::SETUID
            | CapabilitySet::SETGID
            | CapabilitySet::SYS_ADMIN;
        if !before.permitted.contains(needed) {
            return None;
        }
        rights.assume().unwrap();
        rights.close().unwrap();
        let bounded =
            |capability| rustix::thread::capability_is_in_bounding_set(capability).unwrap();
        let bounding = [CapabilitySet::CHOWN, CapabilitySet::KILL, CapabilitySet::SYS_ADMIN];
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).unwrap();
        let uid = uid.split('\t').next().unwrap().parse().unwrap();
        let sets = rustix::thread::capabilities(None).unwrap();
        let of_rights = ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp"];
        let lines = status.lines().filter(|line| of_rights.iter().any(|it| line.starts_with(it)));
        let lines = lines.collect::<Vec<_>>().join("\n");
        Some((sets, bounding.map(bounded), uid, lines))
    });
    seen.join().unwrap()
}

#[test]
fn a_process_has_these_rights_and_no_other() {
    for no_new_privileges in [true, false] {
        let rights = rights(json!({"noNewPrivileges": no_new_privileges})).unwrap();
        let Some((sets, bounding, ..)) = after(rights) else { return };
        assert_eq!((sets.effective, sets.permitted), (CapabilitySet::CHOWN, CapabilitySet::CHOWN));
        assert!(sets.inheritable.is_empty());
        assert_eq!(bounding, [true, true, false]);
    }
}

#[test]
fn another_user_than_root_keeps_what_it_is_given() {
    for no_new_privileges in [true, false] {
        let user = json!({"uid": 1000, "gid": 1000});
        let more = json!({"noNewPrivileges": no_new_privileges, "user": user});
        let Some((sets, bounding, uid, _)) = after(rights(more).unwrap()) else { return };
        assert_eq!((sets.effective, sets.permitted), (CapabilitySet::CHOWN, CapabilitySet::CHOWN));
        assert_eq!((bounding, uid), ([true, true, false], 1000));
    }
}

#[test]
fn what_is_kept_for_the_filter_is_nowhere_in_the_end() {
    for (uid, no_new_privileges) in [(0, true), (0, false), (1000, true), (1000, false)] {
        let more = json!({
            "noNewPrivileges": no_new_privileges,
            "user": {"uid": uid, "gid": uid, "additionalGids": [7, 8]},
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_KILL"],
                "permitted": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_CHOWN"],
                "inheritable": ["CAP_KILL"],
                "ambient": ["CAP_KILL"]
            }
        });
        let fast = rights_with(PROFILE, more.clone()).unwrap();
        let slow = rights_with(RELUCTANT, more).unwrap();
        assert_eq!((fast.keep_for_loading, slow.keep_for_loading), (no_new_privileges, false));
        let Some((sets, _, _, fast)) = after(fast) else { return };
        let (_, _, _, slow) = after(slow).unwrap();
        assert_eq!(fast, slow, "{uid} {no_new_privileges}");
        assert_eq!(sets.permitted, CapabilitySet::CHOWN | CapabilitySet::KILL);
        assert_eq!(sets.effective, CapabilitySet::CHOWN);
        assert!(fast.contains("Seccomp_filters:\t") && fast.contains("CapAmb:"), "{fast}");
    }
}

#[test]
fn nothing_is_kept_without_a_filter() {
    let process =
        json!({"noNewPrivileges": true, "user": {"uid": 0, "gid": 0}, "capabilities": {}});
    let folder = tempfile::tempdir().unwrap();
    let rights = Rights::of(&serde_json::from_value(process).unwrap(), None, folder.path());
    assert!(!rights.unwrap().keep_for_loading);
}
