//! Copies of this process that do one thing for it and are gone.
#![expect(unsafe_code, reason = "fork(2) has no safe wrapper")]

use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, WaitOptions};

/// What each side says when its step is done; anything else is why it could not be done.
const DONE: &[u8] = b".";

/// Longest reason.
const REASON_LENGTH_MAX: usize = 512;

/// How a copy and its maker take turns.
pub(crate) struct Turns(OwnedFd);

impl Turns {
    /// My step is done, the other one may go on.
    pub(crate) fn pass(&self) -> anyhow::Result<()> {
        self.say(DONE)
    }

    fn say(&self, text: &[u8]) -> anyhow::Result<()> {
        rustix::net::send(&self.0, text, SendFlags::NOSIGNAL).context("pass the turn")?;
        Ok(())
    }

    /// Waits until the other one's step is done. It ends with the other one, so there is no need of a deadline of its own.
    pub(crate) fn wait(&self) -> anyhow::Result<()> {
        let mut text = [0; REASON_LENGTH_MAX];
        let length = rustix::io::read(&self.0, &mut text).context("wait for the turn")?;
        match text.get(..length).unwrap_or_default() {
            DONE => Ok(()),
            [] => bail!("the other process has ended"),
            reason => bail!("{}", String::from_utf8_lossy(reason)),
        }
    }
}

/// A copy of this process. Dropping this ends it.
pub(crate) struct Copy {
    pid: Pid,
    turns: Option<Turns>,
}

impl Copy {
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets it go on.
    pub(crate) fn pass(&self) -> anyhow::Result<()> {
        self.turns.as_ref().context("no turns")?.pass()
    }

    /// Waits for its step; an error of its work is an error here.
    pub(crate) fn wait(&self) -> anyhow::Result<()> {
        self.turns.as_ref().context("no turns")?.wait()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(self.turns.take());
        // It has nothing left to do but to end.
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// Runs `work` in a copy of this process. When it returns, the copy passes the turn and stays, for what belongs to it.
pub(crate) fn copy(work: impl FnOnce(&Turns) -> anyhow::Result<()>) -> anyhow::Result<Copy> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("make a pair of sockets")?;
    if let Some(pid) = fork()? {
        return Ok(Copy { pid, turns: Some(Turns(ours)) });
    }
    drop(ours);
    let turns = Turns(theirs);
    match work(&turns) {
        Ok(()) => {
            // Ends when the maker has no more need of us, or is dead.
            let _ = turns.pass().and_then(|()| turns.wait());
        }
        Err(error) => {
            let text = format!("{error:#}");
            let _ = turns.say(text.as_bytes().get(..REASON_LENGTH_MAX).unwrap_or(text.as_bytes()));
        }
    }
    exit()
}

/// Runs `work` in a copy of this process that outlives it. It must not return.
pub(crate) fn leave(work: impl FnOnce()) -> anyhow::Result<Pid> {
    match fork()? {
        Some(pid) => Ok(pid),
        None => {
            work();
            exit()
        }
    }
}

/// `None` in the copy.
fn fork() -> anyhow::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so no lock is held by another, and the copy may do whatever this one could.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(std::io::Error::last_os_error()).context("fork");
    }
    Ok(Pid::from_raw(pid))
}

fn exit() -> ! {
    end(0)
}

/// Ends a copy, and drops nothing of what it holds.
pub(crate) fn end(status: i32) -> ! {
    // SAFETY: ends the copy without running what its maker has registered for its own end.
    unsafe { libc::_exit(status) }
}
