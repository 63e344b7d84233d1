//! A mount namespace with nothing in it. A container's is made of a copy: to copy the node's, with the mounts of all pods, and to
//! take that copy apart again, would take longer with each pod that runs.
//!
//! It is made once by each agent, which gives it to the helpers it starts; nobody ever lives in it.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Context as _;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::userns;

/// Makes one; this process is in it from then on.
pub(crate) fn make() -> anyhow::Result<OwnedFd> {
    userns::unshare(UnshareFlags::NEWNS)?;
    let namespace =
        rustix::fs::open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .context("open it")?;
    enter_empty_root()?;
    Ok(namespace)
}

/// Makes a root with nothing in it the root of this process, whose mount namespace is its own, and leaves the old one.
pub(crate) fn enter_empty_root() -> anyhow::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("make mounts private")?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("none", "/proc", "tmpfs", flags, Some(c"size=4k,nr_inodes=1,mode=555"))
        .context("mount an empty root")?;
    rustix::process::chdir("/proc").context("enter the empty root")?;
    rustix::process::pivot_root(".", ".").context("make it the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("leave the old root")?;
    rustix::process::chdir("/").context("enter the root")
}

/// Gives this process a copy of `empty` as its mount namespace.
pub(crate) fn copy(empty: &OwnedFd) -> anyhow::Result<()> {
    move_into_link_name_space(empty.as_fd(), Some(LinkNameSpaceType::Mount))
        .context("enter the empty mount namespace")?;
    userns::unshare(UnshareFlags::NEWNS)
}
