//! More programs in a container that runs: for `exec`, for probes, for hooks.
//!
//! The helper starts them (see `ingot-runc`), PID 1 is their parent, and this module is their other end: pipes or a
//! terminal, the exit, a kill. A program that was started does not die with whoever listens to it (it notices that its
//! pipes or terminal are gone), but one that was to be waited for ([`exec_sync`]) does, and all do when the agent begins
//! anew: nobody would ever wait for them again.

mod kill;
mod sync;

pub(crate) use kill::sweep;
pub use sync::ExecOutput;
pub(crate) use sync::exec_sync;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ingot_linux::{pipe, pty};
use ingot_runc_api::{Created, Reply, Request, Stdio};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::container::{self, RunPaths};
use crate::context::Context;
use crate::io::{Input, Output};
use crate::pid1::{Pid1, Pid1Error};
use crate::runc::{self, RuncError};

/// Programs started at the same time at most; more only fight for the CPUs.
static SLOTS: Semaphore = Semaphore::const_new(4);

/// Tells the records of programs apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Room in a pipe: the kernel's default.
const PIPE_BYTES: usize = 64 * 1024;

/// Exit code of a program whose end nobody saw.
const UNKNOWN_EXIT: i32 = 255;

/// Why a program was not started, or not waited for.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is no such program in the container, or it may not be executed.
    #[error("{message}")]
    NotExecuted {
        /// 127 when it is not there, 126 when it may not be executed.
        exit_code: i32,
        /// The whole reason.
        message: String,
    },
    /// Its pipes.
    #[error("make the pipes of the program")]
    Pipes(#[source] io::Error),
    /// Where it is written down that it runs.
    #[error("prepare {path}")]
    Prepare {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The helper could not, also because the container has ended.
    #[error("start the program in the container: {message}")]
    Start {
        /// All causes.
        message: String,
    },
    /// Only PID 1 can see its end.
    #[error("ask PID 1")]
    Pid1(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It ran for longer than it was allowed to, and was killed.
    #[error("the program did not end within {} ms and was killed", .timeout.as_millis())]
    TimedOut {
        /// What it was allowed.
        timeout: Duration,
    },
    /// The agent ends.
    #[error("the agent is ending")]
    Ending,
}

impl From<Pid1Error> for ExecError {
    fn from(error: Pid1Error) -> Self {
        Self::Pid1(Box::new(error))
    }
}

impl From<RuncError> for ExecError {
    fn from(error: RuncError) -> Self {
        Self::Start { message: crate::report::chain(&error) }
    }
}

/// A running container.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its id.
    pub(crate) id: String,
    /// Its first process: pid and start time.
    pub(crate) process: (i32, u64),
    /// Full path of its cgroup.
    pub(crate) cgroup: PathBuf,
}

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    /// Program and arguments. A program without a slash is looked up in the container's PATH.
    pub command: Vec<String>,
    /// `NAME=value`, each in place of what the container's environment has of that name.
    pub environment: Vec<String>,
    /// Give it a terminal, which is its standard input, output and error.
    pub tty: bool,
    /// Let it read from us; otherwise it finds nothing to read. A terminal can always be written to.
    pub stdin: bool,
    /// Columns and rows of the terminal.
    pub size: Option<(u16, u16)>,
}

/// A program that was started.
pub struct Exec {
    /// What it reads; `None` when nothing was asked for.
    pub stdin: Option<Input>,
    /// What it writes to standard output, or to its terminal. Ends with the program, even when somebody it left behind
    /// goes on writing.
    pub stdout: Output,
    /// What it writes to standard error; `None` with a terminal.
    pub stderr: Option<Output>,
    /// The program itself.
    pub process: ExecProcess,
}

/// Handle of a started program. Cheap to clone.
#[derive(Clone)]
pub struct ExecProcess {
    process: (i32, u64),
    cgroup: PathBuf,
    terminal: Option<Arc<OwnedFd>>,
    exit: watch::Receiver<Option<i32>>,
}

impl ExecProcess {
    /// Its exit code once it has ended; 128 and the signal's number when a signal ended it.
    pub async fn wait(&self) -> i32 {
        let mut exit = self.exit.clone();
        // An error means that the agent ends.
        exit.wait_for(Option::is_some)
            .await
            .map_or(UNKNOWN_EXIT, |code| code.unwrap_or(UNKNOWN_EXIT))
    }

    /// Says how large its terminal is. A program without one ignores it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |master| pty::set_size(master, columns, rows))
    }

    /// Kills it, everything in its session and everything that descends from it. What has left both (a daemon that was
    /// started by it, has begun a session of its own and whose parent is gone) is the container's by then and stays.
    pub async fn kill(&self) {
        let (process, cgroup) = (self.process, self.cgroup.clone());
        // Fails only when the agent ends.
        let _ = tokio::task::spawn_blocking(move || kill::tree(&cgroup, process)).await;
    }
}

/// Starts a program in a container. Once begun, it is finished even when the caller gives up waiting; then the program is
/// killed.
pub(crate) async fn start(
    context: &Arc<Context>,
    target: Target,
    spec: ExecSpec,
) -> Result<Exec, ExecError> {
    let (done, result) = oneshot::channel();
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let result = begin(&context, &target, &spec).await;
        if let Err(Ok(unwanted)) = done.send(result) {
            unwanted.process.kill().await;
        }
    });
    result.await.map_err(|_| ExecError::Ending)?
}

/// The folder of records, in that of the run, with which it goes: it is not made when that is gone.
fn make_records(folder: &Path) -> Result<(), ExecError> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(ExecError::Prepare { path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Descriptors on both sides.
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    theirs: Vec<OwnedFd>,
}

fn ends(spec: &ExecSpec) -> io::Result<Ends> {
    if spec.tty {
        return Ok(Ends { stdin: None, stdout: None, stderr: None, theirs: Vec::new() });
    }
    let (stdout, stdout_write) = pipe::with_size(PIPE_BYTES)?;
    let (stderr, stderr_write) = pipe::with_size(PIPE_BYTES)?;
    let mut theirs = vec![stdout_write, stderr_write];
    let mut stdin = None;
    if spec.stdin {
        let (read, write) = pipe::with_size(PIPE_BYTES)?;
        // The program's end blocks, as programs expect it; ours does not.
        rustix::io::ioctl_fionbio(&read, false)?;
        rustix::io::ioctl_fionbio(&write, true)?;
        theirs.insert(0, read);
        stdin = Some(write);
    }
    Ok(Ends { stdin, stdout: Some(stdout), stderr: Some(stderr), theirs })
}

async fn begin(
    context: &Arc<Context>,
    target: &Target,
    spec: &ExecSpec,
) -> Result<Exec, ExecError> {
    let run = RunPaths::new(context, &target.id).run;
    let records = kill::records(&run);
    make_records(&records)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let record = records.join(format!("{}-{number}", std::process::id()));
    let Ends { stdin, stdout, stderr, theirs } = ends(spec).map_err(ExecError::Pipes)?;
    let (pid, start_time) = target.process;
    let request = Request::Exec(ingot_runc_api::Exec {
        bundle: run.join("bundle"),
        filters: container::filters(context),
        process: Created { pid, start_time },
        cgroup: target.cgroup.clone(),
        command: spec.command.clone(),
        environment: spec.environment.clone(),
        stdio: match (spec.tty, spec.stdin) {
            (true, _) => Stdio::Terminal,
            (false, true) => Stdio::All,
            (false, false) => Stdio::Output,
        },
        size: spec.size,
        record: record.clone(),
    });
    let program = context.paths().runc.clone();
    let started = {
        // Closed never.
        let _slot = SLOTS.acquire().await;
        let run = move || runc::run(&program, &request, &theirs);
        tokio::task::spawn_blocking(run).await.map_err(|_| ExecError::Ending)?
    };
    let started = started.map_err(ExecError::from).and_then(|(reply, descriptors)| match reply {
        Reply::Started(created) => Ok((created, descriptors.into_iter().next())),
        Reply::NotExecuted { exit_code, message } => {
            Err(ExecError::NotExecuted { exit_code, message })
        }
        _ => Err(ExecError::Start { message: "a wrong answer".to_owned() }),
    });
    let (created, master) = started.inspect_err(|_| kill::forget(&record))?;
    let process = (created.pid, created.start_time);
    let exit = watch_exit(context, process, record, target).await?;
    let (stdin, stdout) = match master {
        Some(master) => {
            rustix::io::ioctl_fionbio(&master, true).map_err(|e| ExecError::Pipes(e.into()))?;
            let input = spec.stdin.then(|| master.try_clone()).transpose();
            (input.map_err(ExecError::Pipes)?, Some(master))
        }
        None => (stdin, stdout),
    };
    Exec::new(process, target, spec.tty, [stdin, stdout, stderr], exit).map_err(ExecError::Pipes)
}

impl Exec {
    fn new(
        process: (i32, u64),
        target: &Target,
        tty: bool,
        [stdin, stdout, stderr]: [Option<OwnedFd>; 3],
        exit: watch::Receiver<Option<i32>>,
    ) -> io::Result<Self> {
        let stdout = stdout.ok_or(io::ErrorKind::InvalidInput)?;
        let terminal = if tty { Some(Arc::new(stdout.try_clone()?)) } else { None };
        let output = |fd| Output::new(fd, exit.clone());
        Ok(Self {
            stdin: stdin.map(Input::new).transpose()?,
            stdout: output(stdout)?,
            stderr: stderr.map(output).transpose()?,
            process: ExecProcess { process, cgroup: target.cgroup.clone(), terminal, exit },
        })
    }
}

/// Has the end of a program told, and written off when it comes.
async fn watch_exit(
    context: &Arc<Context>,
    process: (i32, u64),
    record: PathBuf,
    target: &Target,
) -> Result<watch::Receiver<Option<i32>>, ExecError> {
    let exit = match context.pid1.watch(process).await {
        Ok(exit) => exit,
        Err(error) => {
            // A program whose end nobody would see must not run.
            let cgroup = target.cgroup.clone();
            let _ = tokio::task::spawn_blocking(move || kill::tree(&cgroup, process)).await;
            kill::forget(&record);
            return Err(error.into());
        }
    };
    let (sender, receiver) = watch::channel(None);
    let pid1 = context.pid1.clone();
    tokio::spawn(async move {
        let code = match exit {
            Some(exit) => match exit.await {
                Ok(exit) => exit_code(exit.wait_status),
                // The connection to PID 1 is gone; the next agent sweeps.
                Err(_) => return,
            },
            None => UNKNOWN_EXIT,
        };
        sender.send_replace(Some(code));
        kill::forget(&record);
        acknowledge(&pid1, process).await;
    });
    Ok(receiver)
}

async fn acknowledge(pid1: &Pid1, process: (i32, u64)) {
    if let Err(error) = pid1.acknowledge_exit(process).await {
        // PID 1 tells the next agent, which knows no such process and acknowledges it.
        tracing::warn!(error = crate::report::chain(&error), "acknowledge the exit of a program");
    }
}

fn exit_code(wait_status: i32) -> i32 {
    match wait_status & 0x7f {
        0 => (wait_status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

#[cfg(test)]
mod tests;
