//! The first process of a pod that shares one PID namespace: it does nothing, has nothing and may nothing. The kernel reaps
//! for it, because it ignores that its children end.
//!
//! Processes of the pod see it as process 1, so whatever it had they could reach: it has an empty root, no descriptor, no
//! capability, and cannot be traced.
#![expect(unsafe_code, reason = "system calls that have no safe wrapper")]

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::process::{DumpableBehavior, Pid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags, move_into_link_name_space,
};

use crate::{empty, fork, userns};

/// Starts it in a new PID namespace, which belongs to `user` when that is given. It becomes a child of whoever reaps for us.
pub(crate) fn start(cgroup: &Path, user: Option<&OwnedFd>) -> anyhow::Result<Pid> {
    let procs = cgroup.join("cgroup.procs");
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("make a pipe")?;
    // A copy, because a process that has made a PID namespace can have no other children.
    let copy = fork::copy(|_| {
        std::fs::write(&procs, "0").with_context(|| format!("write {}", procs.display()))?;
        if let Some(user) = user {
            move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
                .context("enter the user namespace")?;
            userns::become_root()?;
        }
        userns::unshare(UnshareFlags::NEWPID)?;
        let (ready, ready_write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("make a pipe")?;
        let first = fork::leave(|| {
            let text = match be_nothing() {
                Ok(()) => String::new(),
                Err(error) => format!("{error:#}"),
            };
            let byte = if text.is_empty() { b"." } else { text.as_bytes() };
            let _ = rustix::io::write(&ready_write, byte);
            if text.is_empty() {
                wait_for_ever();
            }
        })?;
        drop(ready_write);
        let mut text = [0; 256];
        let length = rustix::io::read(&ready, &mut text).context("hear from it")?;
        match text.get(..length).unwrap_or_default() {
            b"." => {}
            text => bail!("{}", String::from_utf8_lossy(text)),
        }
        rustix::io::write(&write, &first.as_raw_nonzero().get().to_ne_bytes())
            .context("name it")?;
        Ok(())
    })?;
    copy.wait()?;
    let mut pid = [0; 4];
    rustix::io::read(&read, &mut pid).context("hear its pid")?;
    Pid::from_raw(i32::from_ne_bytes(pid)).context("it has no pid")
}

/// Gives up everything.
fn be_nothing() -> anyhow::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("forbid to be traced")?;
    rustix::process::setsid().context("make a session")?;
    empty_root()?;
    rustix::thread::set_no_new_privs(true).context("set no_new_privs")?;
    let none = CapabilitySet::empty();
    rustix::thread::clear_ambient_capability_set().context("clear ambient capabilities")?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )
    .context("drop capabilities")?;
    // SAFETY: plain system calls without memory.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::prctl(libc::PR_SET_NAME, c"pod-init".as_ptr());
    }
    Ok(())
}

/// A root with nothing in it.
fn empty_root() -> anyhow::Result<()> {
    userns::unshare(UnshareFlags::NEWNS)?;
    empty::enter_empty_root()
}

/// Sleeps without ever waking up, with no descriptor open.
fn wait_for_ever() -> ! {
    // SAFETY: nothing of this process uses a descriptor from here on.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    loop {
        // SAFETY: a plain system call without memory.
        unsafe { libc::pause() };
    }
}
