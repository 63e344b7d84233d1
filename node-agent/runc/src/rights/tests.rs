//! Rights are taken out of the spec whole, and given to a process as they are.

use serde_json::json;

use super::*;

fn spec() -> Value {
    json!({
        "process": {
            "args": ["/server"],
            "noNewPrivileges": true,
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]}
        },
        "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}, "maskedPaths": ["/proc/keys"]}
    })
}

#[test]
fn libcontainer_is_told_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec();
    let rights = Rights::take(&mut spec, folder.path()).unwrap();
    assert_eq!(
        spec,
        json!({
            "process": {"args": ["/server"], "noNewPrivileges": true},
            "linux": {"maskedPaths": ["/proc/keys"]}
        })
    );
    assert_eq!(rights.bounding, CapabilitySet::CHOWN | CapabilitySet::KILL);
    assert_eq!(rights.sets.effective, CapabilitySet::CHOWN);
    assert!(rights.sets.inheritable.is_empty() && rights.ambient.is_empty());
    assert!(rights.no_new_privileges && rights.filter.is_some());
}

#[test]
fn a_spec_that_does_not_say_which_rights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut nothing = json!({"process": {"args": ["/server"]}, "linux": {}});
    assert!(Rights::take(&mut nothing, folder.path()).is_err());
    let mut unknown = json!({"process": {"capabilities": {"bounding": ["CAP_FLY"]}}});
    assert!(Rights::take(&mut unknown, folder.path()).is_err());
}

#[test]
fn a_process_has_these_rights_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let rights = Rights::take(&mut spec(), folder.path()).unwrap();
    // Rights are of a thread.
    let seen = std::thread::spawn(move || {
        let before = rustix::thread::capabilities(None).unwrap();
        if !before.permitted.contains(CapabilitySet::CHOWN | CapabilitySet::SETPCAP) {
            // Only who has rights can give them up.
            return None;
        }
        rustix::thread::set_no_new_privs(true).unwrap();
        rights.apply().unwrap();
        let bounded =
            |capability| rustix::thread::capability_is_in_bounding_set(capability).unwrap();
        let bounding = [CapabilitySet::CHOWN, CapabilitySet::KILL, CapabilitySet::SYS_ADMIN];
        Some((rustix::thread::capabilities(None).unwrap(), bounding.map(bounded)))
    });
    if let Some((sets, bounding)) = seen.join().unwrap() {
        assert_eq!((sets.effective, sets.permitted), (CapabilitySet::CHOWN, CapabilitySet::CHOWN));
        assert!(sets.inheritable.is_empty());
        assert_eq!(bounding, [true, true, false]);
    }
}
