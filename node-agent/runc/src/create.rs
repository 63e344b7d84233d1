//! Builds a container up to the point where its first process waits for its start. Opens everything of the node that it
//! needs, gives birth to that process, and hears from it.
//!
//! It must not decide anything: the spec is in the bundle, the cgroup with its limits exists already.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ingot_linux::process::{self, Pidfd};
use ingot_linux::{beneath, packet, poll, spawn};
use ingot_runc_api::{Create, Created, EXECUTED_FIFO, SECCOMP_FILE, START_FIFO};
use rustix::process::{DumpableBehavior, Signal};

use crate::init::{self, Init, SAID_LENGTH_MAX, Said};
use crate::limits;
use crate::namespaces::Namespaces;
use crate::program::Program;
use crate::rights::Rights;
use crate::spec::Spec;
use crate::{lock, mounts};

/// How long the new process may take until it waits for its start. Shorter than the agent waits for us.
const DEADLINE: Duration = Duration::from_secs(50);

/// Builds the container of `request`; `descriptors` as its `stdio` says. With a terminal its master comes back.
pub(crate) fn build(
    request: &Create,
    descriptors: Vec<OwnedFd>,
) -> anyhow::Result<(Created, Option<OwnedFd>)> {
    // Before anything is opened: nobody in the container may look into us or the new process.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("forbid to be traced")?;
    let _lock = lock::take(&request.lock)?;
    let spec = Spec::read(&request.bundle)?;
    let (ours, channel) = packet::pair().context("make a pair of sockets")?;
    let init = open(request, &spec, descriptors, channel)?;
    limits::prepare(&init.limits, spec.process.oom_score_adj)?;
    let born = give_birth(init)?;
    let heard = hear(&ours, born);
    let (pid, terminal) = match heard {
        Ok(heard) => heard,
        Err((pid, error)) => {
            kill(pid);
            return Err(error);
        }
    };
    let finished = finish(request, pid);
    if finished.is_err() {
        kill(pid);
    }
    Ok((finished?, terminal))
}

/// Everything of the node that the new process needs.
fn open<'a>(
    request: &'a Create,
    spec: &'a Spec,
    mut descriptors: Vec<OwnedFd>,
    channel: OwnedFd,
) -> anyhow::Result<Init<'a>> {
    let process = &spec.process;
    let empty = match request.empty {
        true => Some(descriptors.pop().context("no empty mount namespace came along")?),
        false => None,
    };
    let profile = request.bundle.join(SECCOMP_FILE);
    Ok(Init {
        request,
        spec,
        namespaces: Namespaces::open(&spec.linux.namespaces)?,
        empty,
        rights: Rights::of(process, spec.seccomp(&profile), &request.filters)?,
        program: Program::new(&request.bundle, &process.args)?,
        limits: limits::of(&process.rlimits)?,
        umask: process.user.umask.unwrap_or(limits::DEFAULT_UMASK),
        opened: mounts::open_all(request)?,
        plain: mounts::open_plain(spec, request)?,
        descriptors,
        proc: beneath::folder(Path::new("/proc")).context("open /proc")?,
        cgroup: beneath::folder(&request.cgroup).context("open the cgroup")?,
        channel,
        start: init::make_pipe(&request.bundle.join(START_FIFO))?,
        executed: init::make_pipe(&request.bundle.join(EXECUTED_FIFO))?,
    })
}

/// The new process; for a user namespace one that is going to make it.
fn give_birth(init: Init<'_>) -> anyhow::Result<i32> {
    let mut flags = if init.empty.is_some() { 0 } else { spawn::CLONE_NEWNS };
    if init.namespaces.user.is_some() {
        return spawn::run_in_child_with(None, flags, || init.run()).context("start a process");
    }
    init.namespaces.enter_pid()?;
    if init.namespaces.own_pid {
        flags |= spawn::CLONE_NEWPID;
    }
    let cgroup = init.cgroup.try_clone().context("keep the cgroup")?;
    spawn::run_in_child_with(Some(cgroup.as_fd()), flags, || init.run())
        .context("start a process in the container")
}

/// Waits until the process is ready; its pid, and the master of its terminal. An error comes with whom to kill.
fn hear(channel: &OwnedFd, born: i32) -> Result<(i32, Option<OwnedFd>), (i32, anyhow::Error)> {
    let until = Instant::now() + DEADLINE;
    let mut pid = born;
    loop {
        if !poll::readable(channel, until.saturating_duration_since(Instant::now())) {
            let limit = DEADLINE.as_secs();
            return Err((pid, anyhow::anyhow!("the container was not ready after {limit} s")));
        }
        let mut bytes = [0; SAID_LENGTH_MAX];
        let received = packet::receive(channel, &mut bytes).context("hear from the container");
        let received = received.map_err(|error| (pid, error))?;
        match Said::decode(bytes.get(..received.length).unwrap_or_default()) {
            Some(Said::Born(inside)) => pid = inside,
            Some(Said::Ready) => return Ok((pid, received.descriptors.into_iter().next())),
            Some(Said::Failed(reason)) => return Err((pid, anyhow::Error::msg(reason))),
            None => {
                let ended = "the first process of the container was killed while it was made";
                return Err((pid, anyhow::anyhow!(ended)));
            }
        }
    }
}

/// Nobody knows the process yet, and it is our child, so that its pid is its own as long as we live.
fn kill(pid: i32) {
    if let Ok(process) = Pidfd::open(pid) {
        // It may have ended by itself.
        let _ = process.signal(Signal::KILL);
    }
}

fn finish(request: &Create, pid: i32) -> anyhow::Result<Created> {
    let created = Created { pid, start_time: process::start_time(pid)? };
    let bytes = serde_json::to_vec(&created).context("write the result")?;
    write_by_rename(&request.created, &bytes)?;
    Ok(created)
}

fn write_by_rename(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).with_context(|| format!("write {}", new.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("rename to {}", path.display()))
}
