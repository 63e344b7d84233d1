//! Rights are given to a process as they are.

use serde_json::json;

use super::*;

fn rights(more: serde_json::Value) -> anyhow::Result<Rights> {
    let mut process = json!({
        "user": {"uid": 0, "gid": 0, "additionalGids": [7]},
        "noNewPrivileges": true,
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]}
    });
    for (key, value) in more.as_object().unwrap() {
        process[key] = value.clone();
    }
    let folder = tempfile::tempdir().unwrap();
    let profile =
        RawValue::from_string(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#.to_owned()).unwrap();
    Rights::of(&serde_json::from_value(process).unwrap(), Some(&profile), folder.path())
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

/// What a thread has after it took rights on; `None` when this process has none to give up.
fn after(rights: Rights) -> Option<(CapabilitySets, [bool; 3], u32)> {
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
        Some((sets, bounding.map(bounded), uid))
    });
    seen.join().unwrap()
}

#[test]
fn a_process_has_these_rights_and_no_other() {
    for no_new_privileges in [true, false] {
        let rights = rights(json!({"noNewPrivileges": no_new_privileges})).unwrap();
        let Some((sets, bounding, _)) = after(rights) else { return };
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
        let Some((sets, bounding, uid)) = after(rights(more).unwrap()) else { return };
        assert_eq!((sets.effective, sets.permitted), (CapabilitySet::CHOWN, CapabilitySet::CHOWN));
        assert_eq!((bounding, uid), ([true, true, false], 1000));
    }
}
