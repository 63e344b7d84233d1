//! Starts one more program in a running container, with the container's own user, rights, limits and filters.
//!
//! Runtimes have started such programs as root, without the system call filter or outside the user namespace; not so here. The
//! order is: open everything of the target, enter all its namespaces, make the terminal there, give birth to the new
//! process in the container's cgroup, and let it become the program. The helper itself never becomes visible in the
//! container's pid namespace, and its copy there cannot be traced (CVE-2016-9962).

mod child;
pub(crate) mod plan;
mod target;

use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ingot_linux::process::Pidfd;
use ingot_linux::pty::{self, Pair};
use ingot_linux::spawn::{self, SpawnError};
use ingot_runc_api::{Created, Exec, Reply, Stdio};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal};

use child::Descriptors;
use plan::Plan;
use target::Target;

use crate::limits;

/// How long the new process may take to become the program. Shorter than the agent waits for us, so that we are there to
/// kill it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Longest reason of a failure that the new process sends.
const REASON_LENGTH_MAX: u64 = 256;

/// What was started, or why nothing was.
pub(crate) struct Outcome {
    /// The answer.
    pub(crate) reply: Reply,
    /// What goes along with the answer: the master of the terminal.
    pub(crate) descriptor: Option<OwnedFd>,
    /// The new process; to be killed when nobody takes the answer.
    pub(crate) process: Option<Pidfd>,
}

impl Outcome {
    /// Nobody will ever read what the program writes: it must not run.
    pub(crate) fn abandon(&self) {
        if let Some(process) = &self.process {
            // It may have ended by itself.
            let _ = process.signal(Signal::KILL);
        }
    }
}

/// Starts the program of `request`; `descriptors` as [`Stdio`] says.
pub(crate) fn start(request: &Exec, descriptors: Vec<OwnedFd>) -> anyhow::Result<Outcome> {
    // Before anything of the container is opened: no process of it may look into us or our copy.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("forbid to be traced")?;
    let plan = Plan::read(request)?;
    let target = Target::open(request)?;
    let cgroup_of_process = target.cgroup_of_process(request);
    let record = make_record(request)?;
    let null = open_null()?;
    limits::prepare(&plan.limits, plan.oom_score_adj)?;
    hand_over_pipes(&target, &plan, &descriptors);
    target.enter_mounts()?;
    let (stdio, terminal) = stdio(request, &plan, &target, descriptors, null)?;
    target.enter()?;
    let (reasons, failure) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .context("make the pipe for failures")?;
    let descriptors = Descriptors { stdio, terminal: terminal.is_some(), failure };
    let born = |cgroup: &OwnedFd| {
        spawn::run_in_child_of(Some(cgroup.as_fd()), || child::run(&plan, &target, &descriptors))
    };
    let pid = match (born(&target.cgroup), cgroup_of_process) {
        (Err(SpawnError::Clone(error)), Ok(cgroup))
            if error.raw_os_error() == Some(libc::EBUSY) =>
        {
            born(&cgroup)
        }
        (born, _) => born,
    };
    let pid = pid.context("start a process in the container")?;
    // Ours would keep the pipe open for ever, and the terminal too.
    drop(descriptors);
    let process = Pidfd::open(pid).context("refer to the new process")?;
    let outcome = finish(request, &target, &record, pid, reasons);
    if outcome.is_err() {
        // It may be anywhere on its way.
        let _ = process.signal(Signal::KILL);
    }
    Ok(Outcome { reply: outcome?, descriptor: terminal, process: Some(process) })
}

/// Waits until the program runs.
fn finish(
    request: &Exec,
    target: &Target,
    record: &OwnedFd,
    pid: i32,
    reasons: OwnedFd,
) -> anyhow::Result<Reply> {
    let created = Created { pid, start_time: target.start_time(pid)? };
    let bytes = serde_json::to_vec(&created).context("write the record")?;
    rustix::io::write(record, &bytes).context("write the record")?;
    Ok(match read_reason(reasons)? {
        None => Reply::Started(created),
        Some(error) => not_executed(request, &error),
    })
}

/// Why the program could not be executed, as the new process says; `None` when it has become the program.
fn read_reason(pipe: OwnedFd) -> anyhow::Result<Option<std::io::Error>> {
    let deadline = Instant::now() + DEADLINE;
    let mut text = Vec::new();
    let mut pipe = std::fs::File::from(pipe).take(REASON_LENGTH_MAX);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("count the time")?;
        let mut wait = [PollFd::new(pipe.get_ref(), PollFlags::IN)];
        match rustix::event::poll(&mut wait, Some(&timeout)) {
            Ok(0) => bail!("the new process took more than {} s to start", DEADLINE.as_secs()),
            Err(rustix::io::Errno::INTR) => continue,
            ready => drop(ready.context("wait for the new process")?),
        }
        let mut bytes = [0; 256];
        match pipe.read(&mut bytes).context("read from the new process")? {
            0 => break,
            length => text.extend_from_slice(bytes.get(..length).unwrap_or_default()),
        }
    }
    if text.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&text);
    let (number, step) = text.split_once(' ').context("understand the new process")?;
    let error = std::io::Error::from_raw_os_error(number.parse().unwrap_or(0));
    if step == child::EXECUTE {
        return Ok(Some(error));
    }
    Err(error).context(step.to_owned())
}

/// As a shell says it: 127 when there is no such program, 126 when it cannot be executed.
fn not_executed(request: &Exec, error: &std::io::Error) -> Reply {
    let program = request.command.first().map(String::as_str).unwrap_or_default();
    let absent = error.kind() == std::io::ErrorKind::NotFound;
    let message = match (absent, program.contains('/')) {
        // The words that people, and their scripts, know.
        (true, false) => format!("exec: {program:?}: executable file not found in $PATH"),
        (true, true) => format!("exec: {program:?}: no such file or directory"),
        _ if error.kind() == std::io::ErrorKind::PermissionDenied => {
            format!("exec: {program:?}: permission denied")
        }
        _ => format!("exec: {program:?}: {error}"),
    };
    Reply::NotExecuted { exit_code: if absent { 127 } else { 126 }, message }
}

/// Made while we are the node's root: in a user namespace we could not.
fn make_record(request: &Exec) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(&request.record, flags, Mode::RUSR | Mode::WUSR)
        .with_context(|| format!("create {}", request.record.display()))
}

fn open_null() -> anyhow::Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("open /dev/null")
}

/// A program that is not root could not open `/dev/stdout` otherwise. A user whom the node does not know gets nothing.
fn hand_over_pipes(target: &Target, plan: &Plan, descriptors: &[OwnedFd]) {
    let Some((uid, _)) = target.outside(plan.rights.uid, plan.rights.gid) else { return };
    for fd in descriptors {
        let is_pipe = rustix::fs::fstat(fd)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if is_pipe {
            // Without it everything else still works.
            let _ = rustix::fs::fchown(fd, Some(uid), None);
        }
    }
}

/// Descriptors 0, 1 and 2 of the program, and the master when they are a terminal.
fn stdio(
    request: &Exec,
    plan: &Plan,
    target: &Target,
    descriptors: Vec<OwnedFd>,
    null: OwnedFd,
) -> anyhow::Result<([OwnedFd; 3], Option<OwnedFd>)> {
    match (request.stdio, <[OwnedFd; 2]>::try_from(descriptors)) {
        (Stdio::Output, Ok([stdout, stderr])) => Ok(([null, stdout, stderr], None)),
        (Stdio::All, Err(descriptors)) => match <[OwnedFd; 3]>::try_from(descriptors) {
            Ok(all) => Ok((all, None)),
            Err(_) => bail!("wrong number of descriptors"),
        },
        (Stdio::Terminal, Err(descriptors)) if descriptors.is_empty() => {
            let Pair { master, slave } = pty::open().context("make a terminal")?;
            if let Some((columns, rows)) = request.size {
                pty::set_size(&master, columns, rows).context("set the size of the terminal")?;
            }
            let (owner, _) = target
                .outside(plan.rights.uid, plan.rights.gid)
                .context("nobody has that user id")?;
            rustix::fs::fchown(&slave, Some(owner), None).context("hand over the terminal")?;
            let copy = || slave.try_clone().context("copy the terminal");
            Ok(([copy()?, copy()?, slave], Some(master)))
        }
        _ => bail!("wrong number of descriptors"),
    }
}
