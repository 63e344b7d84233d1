//! User namespaces: made in a copy of this process, because only a process outside may write their ids.
#![expect(
    unsafe_code,
    reason = "unshare(2) is unsafe in rustix for flags that are not used here; setres[ug]id are plain system calls"
)]

use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail};
use ingot_runc_api::{IdMapping, Mappings};
use rustix::fs::{Mode, OFlags};
use rustix::thread::UnshareFlags;

use crate::fork::{self, Copy};

/// A copy of this process in a new user namespace with these ids, as its root, and in more new namespaces that belong to it,
/// once it has done `work` there.
pub(crate) fn make(
    mappings: &Mappings,
    more: UnshareFlags,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Copy> {
    let copy = fork::copy(|turns| {
        unshare(UnshareFlags::NEWUSER)?;
        turns.pass()?;
        turns.wait()?;
        become_root()?;
        if !more.is_empty() {
            unshare(more)?;
        }
        work()
    })?;
    copy.wait().context("make a user namespace")?;
    let folder = format!("/proc/{}", copy.pid().as_raw_nonzero());
    for (file, IdMapping { inside, outside, count }) in
        [("uid_map", mappings.uids), ("gid_map", mappings.gids)]
    {
        std::fs::write(format!("{folder}/{file}"), format!("{inside} {outside} {count}\n"))
            .with_context(|| format!("write {file}"))?;
    }
    copy.pass()?;
    copy.wait().context("make namespaces in the user namespace")?;
    Ok(copy)
}

/// Root of the user namespace that this process is in.
pub(crate) fn become_root() -> anyhow::Result<()> {
    // SAFETY: integers only; this process has one thread, so nobody keeps the old ids.
    let failed = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) != 0
            || libc::syscall(libc::SYS_setresgid, 0, 0, 0) != 0
            || libc::syscall(libc::SYS_setresuid, 0, 0, 0) != 0
    };
    if failed {
        return Err(std::io::Error::last_os_error()).context("become root of the user namespace");
    }
    Ok(())
}

/// A namespace of a process.
pub(crate) fn open(copy: &Copy, kind: &str) -> anyhow::Result<OwnedFd> {
    let path = format!("/proc/{}/ns/{kind}", copy.pid().as_raw_nonzero());
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open {path}"))
}

/// A user namespace with these ids, for mounts that map them.
pub(crate) fn for_mounts(mappings: &Mappings) -> anyhow::Result<OwnedFd> {
    for range in [mappings.uids, mappings.gids] {
        if range.count == 0 {
            bail!("a range of no ids");
        }
    }
    open(&make(mappings, UnshareFlags::empty(), || Ok(()))?, "user")
}

/// Gives this process new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> anyhow::Result<()> {
    // SAFETY: this process has one thread; none of these namespaces has descriptors or memory in it that other code could
    // rely on.
    unsafe { rustix::thread::unshare_unsafe(flags) }.context("unshare")
}
