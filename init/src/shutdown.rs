//! The steps of the end that may block for ever, done in children: writing out, unmounting, detaching.
//!
//! A child is a copy of PID 1 with the same mounts. It may allocate and block; PID 1 waits for it with a deadline and goes
//! on without it.

use std::path::Path;

use ingot_linux::mount::{self, MountFlags, MountPoint};

use crate::supervise::Helper;

/// File systems of the kernel itself, without anything to write out; the way down needs some of them.
const KEPT_KINDS: [&str; 13] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup2",
    "securityfs",
    "bpf",
    "pstore",
    "efivarfs",
    "mqueue",
    "tracefs",
    "debugfs",
    "hugetlbfs",
];

/// Does it and gives the exit status: 0 when all of it went well.
#[must_use]
pub fn run(helper: Helper) -> i32 {
    match helper {
        Helper::Sync => {
            rustix::fs::sync();
            0
        }
        Helper::Unmount => all_of(|point| mount::unmount(&point.target, false).is_ok()),
        Helper::Detach => all_of(|point| {
            // Read-only first: detaching alone would leave the journal of a busy file system open.
            let read_only = mount::remount(&point.target, MountFlags::RDONLY).is_ok();
            mount::unmount(&point.target, true).is_ok() && read_only
        }),
    }
}

/// Newest first, so that what lies on top goes first. Every mount is tried, whatever became of the others.
fn all_of(work: impl Fn(&MountPoint) -> bool) -> i32 {
    let Ok(table) = mount::table() else { return 1 };
    let failed =
        table.iter().rev().filter(|point| goes(point)).filter(|point| !work(point)).count();
    i32::from(failed > 0)
}

fn goes(point: &MountPoint) -> bool {
    point.target != Path::new("/") && !KEPT_KINDS.contains(&point.kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_and_the_kernels_own_file_systems_stay() {
        let point = |target: &str, kind: &str| MountPoint {
            target: target.into(),
            kind: kind.into(),
            from: String::new(),
            options: String::new(),
        };
        assert!(goes(&point("/var", "ext4")) && goes(&point("/run", "tmpfs")));
        assert!(goes(&point("/var/lib/ingot/containers/x/rootfs", "overlay")));
        assert!(goes(&point("/run/ingot/pods/x/net", "nsfs")), "pinned, it keeps /run busy");
        assert!(!goes(&point("/", "erofs")) && !goes(&point("/dev", "devtmpfs")));
    }
}
