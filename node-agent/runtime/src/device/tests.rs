//! Devices are found by what they are, not by what they are called.

use super::*;

fn device(path: &str, permissions: &str) -> Device {
    Device {
        host_path: path.into(),
        container_path: path.into(),
        permissions: permissions.to_owned(),
    }
}

#[test]
fn a_device_is_described_by_its_numbers() {
    let nodes = find(&[Device {
        host_path: "/dev/null".into(),
        container_path: "/dev/nothing".into(),
        permissions: "rw".to_owned(),
    }])
    .unwrap();
    assert_eq!(nodes.len(), 1);
    let spec = nodes[0].to_spec();
    assert_eq!(spec["path"], "/dev/nothing");
    assert_eq!((spec["major"].as_u64(), spec["minor"].as_u64()), (Some(1), Some(3)));
    let rule = nodes[0].rule();
    assert_eq!((rule.read, rule.write, rule.make), (true, true, false));
}

#[test]
fn what_is_no_device_is_refused() {
    assert!(matches!(find(&[device("/etc/passwd", "rwm")]), Err(DeviceError::NoDevice { .. })));
    assert!(matches!(find(&[device("/dev/absent", "rwm")]), Err(DeviceError::Read { .. })));
    for wrong in ["", "rx", "r,w", "R"] {
        let found = find(&[device("/dev/null", wrong)]);
        assert!(matches!(found, Err(DeviceError::Permissions { .. })), "{wrong}");
    }
}

#[test]
fn a_later_node_takes_the_place_of_an_earlier_one() {
    let twice = [device("/dev/null", "r"), device("/dev/null", "rwm")];
    let nodes = find(&twice).unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].permissions, "rwm");
}

#[test]
fn harmless_are_those_that_lead_to_nothing_of_the_node() {
    let opens = |block: bool, major: u32, minor: u32| {
        HARMLESS.iter().any(|rule| {
            rule.block == block
                && rule.major.is_none_or(|of| of == major)
                && rule.minor.is_none_or(|of| of == minor)
                && (rule.read || rule.write)
        })
    };
    for (major, minor) in
        [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 77)]
    {
        assert!(opens(false, major, minor), "{major}:{minor}");
    }
    // Memory, ports, the kernel's log, consoles, serial lines, the watchdog, disks.
    for (major, minor) in [(1, 1), (1, 2), (1, 4), (1, 11), (4, 0), (4, 64), (5, 1), (10, 130)] {
        assert!(!opens(false, major, minor), "{major}:{minor}");
    }
    for (major, minor) in [(1, 3), (5, 2), (8, 0), (254, 0), (259, 0)] {
        assert!(!opens(true, major, minor), "{major}:{minor}");
    }
}
