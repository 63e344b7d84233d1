//! A kept filter is the one that was made, of that profile and no other; a loaded one holds.

use serde_json::json;

use super::*;

/// The filter of a profile that lies in a file of its own.
fn of(text: &str, folder: &Path) -> anyhow::Result<Filter> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    Filter::of(Source { digest: &digest_of(text.as_bytes()), file: file.path() }, folder)
}

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
    let made = of(&profile("chroot"), folder.path()).unwrap();
    let kept = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!((of(&profile("chroot"), folder.path()).unwrap(), kept), (made.clone(), 1));
    assert_ne!(of(&profile("mount"), folder.path()).unwrap(), made);
}

#[test]
fn a_file_of_another_profile_or_cut_off_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let one = profile("chroot");
    let [digest, other] = [&one, &profile("mount")].map(|it| digest_of(it.as_bytes()));
    let made = of(&one, folder.path()).unwrap();
    let bytes = made.encode(&digest).unwrap();
    assert_eq!(Filter::decode(&bytes, &digest), Some(made.clone()));
    assert_eq!(Filter::decode(&bytes, &other), None);
    for length in [0, 3, 64, 70, 80, bytes.len() - 8, bytes.len() - 1] {
        assert_eq!(Filter::decode(&bytes[..length], &digest), None, "{length} bytes");
    }
    // Whatever is under its name, the filter is that of its profile.
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&path, b"").unwrap();
    assert_eq!(of(&one, folder.path()).unwrap(), made);
}

#[test]
fn a_filter_is_made_of_the_profile_of_that_digest_and_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile");
    std::fs::write(&file, profile("mount")).unwrap();
    let digest = digest_of(profile("chroot").as_bytes());
    for digest in [digest.as_str(), "", "../profile", &"G".repeat(DIGEST_LENGTH)] {
        assert!(Filter::of(Source { digest, file: &file }, folder.path()).is_err(), "{digest}");
    }
    // What is kept is not read again.
    of(&profile("chroot"), folder.path()).unwrap();
    assert!(Filter::of(Source { digest: &digest, file: &file }, folder.path()).is_ok());
}

#[test]
fn no_more_are_kept_than_there_is_room_for() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..KEPT_MAX {
        std::fs::write(folder.path().join(number.to_string()), b"").unwrap();
    }
    of(&profile("chroot"), folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), KEPT_MAX);
}

#[test]
fn what_cannot_be_a_filter_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let of = |profile: serde_json::Value| of(&profile.to_string(), folder.path());
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
    of(&profile("getpriority"), folder.path()).unwrap();
    let filter = of(&profile("getpriority"), folder.path()).unwrap();
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

/// What is found out beforehand is what libseccomp's filters say: allowed by name, by default, forbidden, in between.
#[test]
fn what_is_always_allowed_is_known_beforehand() {
    let folder = tempfile::tempdir().unwrap();
    let filter = of(&profile("chroot"), folder.path()).unwrap();
    let seen = [libc::SYS_capset, libc::SYS_chroot, libc::SYS_personality];
    assert_eq!(seen.map(|call| filter.always_allows(call)), [true, false, false]);
    let list: Vec<_> = (0..300).filter_map(|it| ScmpSyscall::from(it).get_name().ok()).collect();
    let but =
        |name: &str| -> Vec<String> { list.iter().filter(|it| *it != name).cloned().collect() };
    let with = |names: Vec<String>, action: &str| {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": names, "action": action}]
        });
        of(&profile.to_string(), folder.path()).unwrap()
    };
    let allowed = with(but("chroot"), "SCMP_ACT_ALLOW");
    assert_eq!(seen.map(|call| allowed.always_allows(call)), [true, false, true]);
    assert!(!with(but("capset"), "SCMP_ACT_ALLOW").always_allows(libc::SYS_capset));
    assert!(!with(but("chroot"), "SCMP_ACT_LOG").always_allows(libc::SYS_capset));
    assert!(!allowed.always_allows(-1));
}

/// The default profile, as the agent writes it, from its own golden file.
fn default_profile() -> Profile {
    let golden = include_str!("../../../runtime/src/spec/golden/seccomp.json");
    serde_json::from_str(golden).unwrap()
}

/// Whatever is called, and with whatever arguments, the smaller filter says what libseccomp's says.
#[test]
fn a_smaller_filter_says_the_same() {
    let mixed = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["chroot", "mount", "umount2", "setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["read"], "action": "SCMP_ACT_KILL_PROCESS",
             "args": [{"index": 2, "value": 7, "op": "SCMP_CMP_GT"}, {"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 0, "value": 4, "valueTwo": 6, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]
    });
    let only_64 = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read", "write", "exit_group", "execve"], "action": "SCMP_ACT_ALLOW"}]
    });
    let profiles = [
        default_profile(),
        serde_json::from_value(mixed).unwrap(),
        serde_json::from_value(only_64).unwrap(),
    ];
    for (at, profile) in profiles.iter().enumerate() {
        let list = instructions(&Filter::make_list(profile, |_| true).unwrap());
        let made = Filter::make(profile).unwrap().instructions();
        let values = [
            0,
            1,
            3,
            4,
            5,
            7,
            8,
            40,
            0x2_0000,
            0x2_0008,
            0x7e02_0000,
            1 << 31,
            0xffff_ffff,
            1 << 33,
            u64::MAX,
        ];
        let mut verdicts = BTreeSet::new();
        for architecture in [verdict::X86_64, ranges::I386, 0, 7, 0xc000_00b7, u32::MAX] {
            let numbers =
                (0..1200).chain([0x4000_0000, 0x4000_0001, 0x4000_0087, u32::MAX - 1, u32::MAX]);
            for number in numbers {
                for first in values {
                    for third in [0, 8] {
                        let arguments = Some([first, 1, third, 0, 0, 0]);
                        let call = Call { architecture, number, arguments };
                        let said = verdict::of(&list, &call);
                        assert_eq!(verdict::of(&made, &call), said, "{at}: {call:x?}");
                        assert!(said.is_some());
                        verdicts.extend(said);
                    }
                }
            }
        }
        assert!(verdicts.len() > 2, "{verdicts:x?}");
        println!("{at}: {} of {} instructions", made.len(), list.len());
        let smaller = if at == 0 { list.len() / 2 } else { list.len() + 1 };
        assert!(made.len() < smaller, "{at}: {} of {}", made.len(), list.len());
    }
}
