//! Running one plugin: a program with its question on standard input and its answer on standard output. It is spawned, never
//! forked, with an empty environment but for what CNI defines, and it is never waited for without an end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::readiness;

/// Bytes of an answer at most; a real one has a few hundred.
const ANSWER_MAX: usize = 1 << 20;

/// Bytes of complaints that are kept.
const COMPLAINT_MAX: usize = 16 * 1024;

/// How long a killed plugin may take to be gone. It may sit in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// Where plugins look for the programs they call.
const SEARCH_PATH: &str = "/usr/sbin:/usr/bin";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The program could not be started.
    #[error("start plugin {path}")]
    Spawn {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Its pipes.
    #[error("talk to plugin {path}")]
    Talk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It took too long, and was killed.
    #[error("plugin {path} did not answer within {} s", limit.as_secs())]
    TimedOut { path: PathBuf, limit: Duration },
    /// It writes without an end.
    #[error("plugin {path} answers with more than {ANSWER_MAX} bytes")]
    TooMuch { path: PathBuf },
    /// The agent ends.
    #[error("the agent is ending")]
    Ending,
}

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) program: PathBuf,
    /// The `CNI_*` variables.
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) input: Vec<u8>,
    pub(super) limit: Duration,
    /// `cgroup.procs` of the group plugins run in; the agent's own when it cannot be written.
    pub(super) cgroup: PathBuf,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) succeeded: bool,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Runs a plugin to its end, also when nobody waits for it any more: what it has begun must be known to be over before the
/// next call for the same sandbox.
pub(super) async fn run(call: Call) -> Result<Answer, ExecError> {
    let running = tokio::spawn(async move { run_here(&call).await });
    running.await.map_err(|_| ExecError::Ending)?
}

async fn run_here(call: &Call) -> Result<Answer, ExecError> {
    let failed = |source| ExecError::Spawn { path: call.program.clone(), source };
    let mut command = command(call);
    let spawning = tokio::task::spawn_blocking(move || command.spawn());
    let mut child = spawning.await.map_err(|_| ExecError::Ending)?.map_err(failed)?;
    // Before it has its question: it does next to nothing without.
    let _ = std::fs::write(&call.cgroup, child.id().to_string());
    let answer = tokio::time::timeout(call.limit, talk(call, &mut child)).await;
    let answer = answer.unwrap_or_else(|_| {
        Err(ExecError::TimedOut { path: call.program.clone(), limit: call.limit })
    });
    end(&mut child, answer.is_err()).await;
    answer
}

fn command(call: &Call) -> Command {
    let mut command = Command::new(&call.program);
    command
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .envs(call.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        // What it starts ends with it.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Asks, and takes the answer. Over when the plugin has ended, whoever else holds its pipes.
async fn talk(call: &Call, child: &mut Child) -> Result<Answer, ExecError> {
    let failed = |source| ExecError::Talk { path: call.program.clone(), source };
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdin = OwnedFd::from(child.stdin.take().ok_or_else(missing).map_err(failed)?);
    let stdout = OwnedFd::from(child.stdout.take().ok_or_else(missing).map_err(failed)?);
    let stderr = OwnedFd::from(child.stderr.take().ok_or_else(missing).map_err(failed)?);
    let mut stdin = Sender::from_owned_fd(stdin).map_err(failed)?;
    let mut stdout = Receiver::from_owned_fd(stdout).map_err(failed)?;
    let mut stderr = Receiver::from_owned_fd(stderr).map_err(failed)?;
    let ended = readiness::register(pidfd(child).map_err(failed)?).map_err(failed)?;
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let ask = async {
        // A plugin that does not want to know (VERSION) may close it unread.
        let _ = stdin.write_all(&call.input).await;
        drop(stdin);
        std::future::pending::<()>().await;
    };
    let listen = async {
        keep(&mut stdout, &mut answer, ANSWER_MAX).await;
    };
    let complain = async {
        keep(&mut stderr, &mut complaint, COMPLAINT_MAX).await;
        // It goes on complaining to nobody, instead of waiting for a reader.
        while stderr.read_buf(&mut Vec::with_capacity(COMPLAINT_MAX)).await.unwrap_or(0) > 0 {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ask => {}
        () = listen => {}
        () = complain => {}
        // Cancel safe: a pidfd stays readable.
        _ = ended.readable() => {}
    }
    // What it wrote at last is in the pipes.
    drain(&mut stdout, &mut answer, ANSWER_MAX);
    drain(&mut stderr, &mut complaint, COMPLAINT_MAX);
    if answer.len() >= ANSWER_MAX {
        return Err(ExecError::TooMuch { path: call.program.clone() });
    }
    let status = child.try_wait().map_err(failed)?;
    let succeeded = status.is_some_and(|status| status.success());
    Ok(Answer { succeeded, stdout: answer, stderr: complaint })
}

/// Reads until there is more than `most`; when it comes to the end, that is waited for elsewhere.
async fn keep(pipe: &mut Receiver, kept: &mut Vec<u8>, most: usize) {
    while kept.len() < most {
        // An error is an end.
        if pipe.read_buf(kept).await.unwrap_or(0) == 0 {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads what is there.
fn drain(pipe: &mut Receiver, kept: &mut Vec<u8>, most: usize) {
    let mut some = [0; 4096];
    while kept.len() < most
        && let Ok(length) = pipe.try_read(&mut some)
        && length > 0
    {
        kept.extend(some.iter().take(length));
    }
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::NONBLOCK)?)
}

/// Makes sure that nothing of it is left.
async fn end(child: &mut Child, kill: bool) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    if kill {
        // Not waited for yet, so the pid is still its own.
        let _ = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL);
    }
    let Ok(ended) = pidfd(child).and_then(readiness::register) else { return };
    let _ = tokio::time::timeout(KILL_DEADLINE, ended.readable()).await;
    let _ = child.try_wait();
}
