//! A kept filter is the one that was made, of that profile and no other; a loaded one holds.

use serde_json::json;

use super::*;

fn profile(forbidden: &str) -> String {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": [forbidden, "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
             "args": [{"index": 0, "value": 4, "valueTwo": 6, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]
    })
    .to_string()
}

#[test]
fn what_is_kept_is_what_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let made = Filter::of(&profile("chroot"), folder.path()).unwrap();
    let kept = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!((Filter::of(&profile("chroot"), folder.path()).unwrap(), kept), (made.clone(), 1));
    assert_ne!(Filter::of(&profile("mount"), folder.path()).unwrap(), made);
}

#[test]
fn a_file_of_another_profile_or_cut_off_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (profile("chroot"), profile("mount"));
    let made = Filter::of(&one, folder.path()).unwrap();
    let bytes = made.encode(&one).unwrap();
    assert_eq!(Filter::decode(&bytes, &one), Some(made.clone()));
    assert_eq!(Filter::decode(&bytes, &other), None);
    for length in [0, 3, 7, 20, bytes.len() - 1] {
        assert_eq!(Filter::decode(&bytes[..length], &one), None, "{length} bytes");
    }
    // Whatever is under its name, the filter is that of its profile.
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&path, b"").unwrap();
    assert_eq!(Filter::of(&one, folder.path()).unwrap(), made);
}

#[test]
fn no_more_are_kept_than_there_is_room_for() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..KEPT_MAX {
        std::fs::write(folder.path().join(number.to_string()), b"").unwrap();
    }
    Filter::of(&profile("chroot"), folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), KEPT_MAX);
}

#[test]
fn what_cannot_be_a_filter_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let of = |profile: serde_json::Value| Filter::of(&profile.to_string(), folder.path());
    assert!(of(json!({"defaultAction": "SCMP_ACT_NOTIFY"})).is_err());
    assert!(of(json!({"defaultAction": "SCMP_ACT_PRAY"})).is_err());
    assert!(of(json!({})).is_err());
    assert!(of(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"})).is_err());
    assert!(of(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["NEW"]})).is_err());
    assert!(of(json!({"defaultAction": "SCMP_ACT_ALLOW"})).is_ok());
}

#[test]
fn a_loaded_filter_holds() {
    let folder = tempfile::tempdir().unwrap();
    // Made, then kept: both must work.
    Filter::of(&profile("getpriority"), folder.path()).unwrap();
    let filter = Filter::of(&profile("getpriority"), folder.path()).unwrap();
    // A filter is of a thread.
    let seen = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        filter.load().unwrap();
        // SAFETY: calls with numbers only.
        let personality = |of: u64| unsafe { libc::syscall(libc::SYS_personality, of) };
        let (masked, other) = (personality(4 | 1), personality(0xffff_ffff));
        (rustix::process::getpriority_process(None), masked, other)
    });
    let (priority, masked, other) = seen.join().unwrap();
    assert_eq!(priority, Err(rustix::io::Errno::NOSYS));
    assert!(masked >= 0 || other >= 0, "{masked} {other}");
}
