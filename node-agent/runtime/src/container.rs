//! One run of a container: made step by step, started, and taken apart again. Every step can be repeated.
//!
//! Order of a start, each written down before it is done (see `pod_task`):
//! 1. record: "run ID is being created"; from here on everything named ID may be thrown away;
//! 2. folders, pipes (our ends also with PID 1), cgroup with its limits, spec;
//! 3. `ingot-runc` builds the container; its first process waits;
//! 4. PID 1 watches that process;
//! 5. record: "run ID is process P"; from here on the run counts;
//! 6. a byte in the pipe that the waiting process reads starts the program; doing it again does nothing.

mod accounts;
mod empty;
mod io;
mod prepare;
pub(crate) mod skeleton;

pub(crate) use empty::EmptyNamespace;
pub(crate) use io::{Io, Stream, pipe_name};
pub(crate) use prepare::filters;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingot_images::Image;
use ingot_linux::process::Pidfd;
use ingot_runc_api::{EXECUTED_FIFO, Reply, Request, START_FIFO};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::cdi::CdiError;
use crate::cgroup::{Cgroup, CgroupError, settings};
use crate::config::{ContainerConfig, MountSource, Resources, SandboxConfig};
use crate::context::Context;
use crate::device::DeviceError;
use crate::logs::LogPaths;
use crate::pid1::Pid1Error;
use crate::runc::{self, RuncError};
use crate::sandbox::{self, SandboxError};
use crate::spec::SpecError;
pub(crate) use crate::spec::User;

/// Why a container could not be made, started or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    /// A file or folder of it.
    #[error("prepare {path}")]
    Prepare {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It cannot be described.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// One of its devices.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// One of its devices that a vendor describes.
    #[error(transparent)]
    Cdi(#[from] CdiError),
    /// The account files of its image.
    #[error("read {file} of the image")]
    Accounts {
        file: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// The profile of its system calls.
    #[error("read the seccomp profile {path}")]
    Seccomp {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The profile of its rights.
    #[error("the AppArmor profile {profile:?} cannot be applied: {problem}")]
    AppArmor { profile: String, problem: String },
    /// The container whose processes it wants to see.
    #[error("container {id} to share processes with does not run")]
    NoTarget { id: String },
    /// Its log file would be somewhere else.
    #[error("{path:?} is not the path of a log file below the pod's")]
    LogPath { path: String },
    /// Its cgroup.
    #[error("set up the cgroup of the container")]
    Cgroup(#[from] CgroupError),
    /// Its pipes.
    #[error("make the pipes of the container")]
    Pipes(#[source] std::io::Error),
    /// Something that only PID 1 can do.
    #[error("ask PID 1")]
    Pid1(#[from] Pid1Error),
    /// Building it.
    #[error("build the container")]
    Build(#[source] RuncError),
    /// Starting its program.
    #[error("start the program")]
    Start(#[source] std::io::Error),
    /// The kernel would not execute its program.
    #[error("{message}")]
    NotExecuted { message: String },
    /// Something of it would not go away.
    #[error("remove the container")]
    Remove(#[source] SandboxError),
    /// The kernel killed it while it was being built.
    #[error(
        "the memory limit of {limit_bytes} bytes is below what it takes to start the container: \
         the kernel killed it while it was being built"
    )]
    MemoryLimitTooSmall { limit_bytes: u64 },
    /// The blocking work was cut off: the agent ends.
    #[error("the agent is ending")]
    Ending,
}

/// A container whose first process waits for its start.
#[derive(Debug)]
pub(crate) struct Built {
    /// Its first process.
    pub(crate) pid: i32,
    /// Field 22 of /proc/PID/stat of that process.
    pub(crate) start_time: u64,
    /// Our ends of its standard descriptors.
    pub(crate) io: Io,
    /// Who its program runs as.
    pub(crate) user: User,
    /// Signal that asks it to end.
    pub(crate) stop_signal: i32,
}

/// Paths of one run.
pub(crate) struct RunPaths {
    /// What it needs for this boot.
    pub(crate) run: PathBuf,
    /// Its writable layer.
    pub(crate) var: PathBuf,
}

impl RunPaths {
    pub(crate) fn new(context: &Context, id: &str) -> Self {
        let paths = context.paths();
        Self {
            run: paths.run.join("containers").join(id),
            var: paths.var.join("containers").join(id),
        }
    }
}

/// Where the log of a run is.
pub(crate) fn log_paths(
    context: &Context,
    uid: &str,
    name: &str,
    id: &str,
    attempt: u32,
) -> LogPaths {
    let logs = context.paths().logs.join(uid).join(name);
    LogPaths { logs, scratch: RunPaths::new(context, id).run, attempt }
}

/// The cgroup of a container of a sandbox.
pub(crate) fn cgroup(
    context: &Context,
    key: &str,
    sandbox: &SandboxConfig,
    id: &str,
) -> Result<Cgroup, CgroupError> {
    Ok(sandbox::cgroup(context, key, sandbox)?.of_container(id))
}

/// Names of the images that a container mounts.
pub(crate) fn mounted_images(config: &ContainerConfig) -> impl Iterator<Item = &str> {
    config.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Image { image, .. } => Some(image.as_str()),
        _ => None,
    })
}

/// Steps 2 and 3. `mounted` are the images that the container mounts, each by the name it has in `config`.
pub(crate) async fn build_with(
    context: &Arc<Context>,
    key: &str,
    sandbox: &SandboxConfig,
    id: &str,
    config: &ContainerConfig,
    image: &Image,
    mounted: Vec<(String, Arc<Image>)>,
) -> Result<Built, ContainerError> {
    let pod_cgroup = sandbox::cgroup(context, key, sandbox)?;
    let (ours, mut theirs) = io::make(config).map_err(ContainerError::Pipes)?;
    io::keep(context, id, &ours).await?;
    let work = prepare::Work {
        context: context.clone(),
        key: key.to_owned(),
        sandbox: sandbox.clone(),
        id: id.to_owned(),
        config: config.clone(),
        image: image.clone(),
        mounted: mounted.into_iter().map(|(name, image)| (name, image.layers.clone())).collect(),
        cgroup: pod_cgroup.of_container(id),
    };
    // The pod's count includes the container's.
    let killed = |cgroup: &Cgroup| cgroup.flag("memory.events", "oom_kill").unwrap_or(0);
    let killed_before = killed(&pod_cgroup);
    let program = context.paths().runc.clone();
    let helper = tokio::task::spawn_blocking(move || {
        work.context.load_module("overlay");
        let (request, user) = prepare::prepare(&work)?;
        io::hand_over(&theirs, work.sandbox.namespaces.user.as_ref(), user.uid);
        if request.empty {
            theirs.push(work.context.empty.get(&program).map_err(ContainerError::Build)?);
        }
        let request = Request::Create(Box::new(request));
        let answer = runc::run(&program, &request, &theirs).map_err(ContainerError::Build)?;
        Ok((answer, user))
    });
    match helper.await.map_err(|_| ContainerError::Ending)? {
        Ok(((Reply::Created(created), descriptors), user)) => Ok(Built {
            pid: created.pid,
            start_time: created.start_time,
            io: io::complete(context, id, ours, descriptors).await?,
            user,
            stop_signal: stop_signal(config, image),
        }),
        Ok(_) => Err(ContainerError::Build(RuncError::Failed("a wrong answer".to_owned()))),
        Err(ContainerError::Build(error)) => Err(match config.resources.memory_limit_bytes {
            Some(limit_bytes) if killed(&pod_cgroup) > killed_before => {
                ContainerError::MemoryLimitTooSmall { limit_bytes }
            }
            _ => ContainerError::Build(error),
        }),
        Err(error) => Err(error),
    }
}

/// Signal that asks a container to end: its own, the image's, else SIGTERM.
pub(crate) fn stop_signal(config: &ContainerConfig, image: &Image) -> i32 {
    config
        .stop_signal
        .or_else(|| crate::signal::number(&image.config.stop_signal))
        .unwrap_or(crate::signal::TERM)
}

/// Longest time from the order to execute the program until it is. It may lie on a slow disk.
const EXECUTE_LIMIT: Duration = Duration::from_secs(30);

/// For open(2) of a pipe: do not wait for a reader, and the error when there is none.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
const NO_READER: i32 = rustix::io::Errno::NXIO.raw_os_error();

/// Longest reason that is read.
const REASON_LENGTH_MAX: u64 = 4096;

/// Step 6. A process that does not wait any more was started before.
pub(crate) async fn start(context: &Context, id: &str) -> Result<(), ContainerError> {
    let bundle = RunPaths::new(context, id).run.join("bundle");
    // Before the order is given, so that nothing said is missed.
    let said = pipe::OpenOptions::new().open_receiver(bundle.join(EXECUTED_FIFO));
    let mut order = std::fs::OpenOptions::new();
    // Nobody has it open for reading when the program was executed, or its process has ended.
    let order = order.write(true).custom_flags(NONBLOCK).open(bundle.join(START_FIFO));
    match order.and_then(|mut order| order.write_all(b".")) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(NO_READER) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(ContainerError::Start(e)),
    }
    match said {
        Ok(said) => executed(said).await,
        Err(e) => Err(ContainerError::Start(e)),
    }
}

/// Waits until the first process has become the program: then its end of the pipe is closed, with nothing said.
async fn executed(said: pipe::Receiver) -> Result<(), ContainerError> {
    let mut reason = Vec::new();
    let mut said = said.take(REASON_LENGTH_MAX);
    match tokio::time::timeout(EXECUTE_LIMIT, said.read_to_end(&mut reason)).await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(_)) => Err(ContainerError::NotExecuted {
            message: String::from_utf8_lossy(&reason).into_owned(),
        }),
        Ok(Err(e)) => Err(ContainerError::Start(e)),
        // Its file system does not answer. It goes on, and its end says what became of it.
        Err(_) => Ok(()),
    }
}

/// Sends a signal to the first process of a container: `process` is its pid and start time.
///
/// # Errors
/// When that process has ended, or the signal is none.
pub(crate) fn signal(process: (i32, u64), signal: i32) -> Result<(), std::io::Error> {
    let signal =
        rustix::process::Signal::from_named_raw(signal).ok_or(std::io::ErrorKind::InvalidInput)?;
    Pidfd::open_exact(process.0, process.1)
        .and_then(|process| process.signal(signal))
        .map_err(std::io::Error::other)
}

/// Changes the limits of a container: all that are given, or none and an error.
pub(crate) fn update(
    context: &Context,
    id: &str,
    resources: &Resources,
) -> Result<(), CgroupError> {
    let root = &context.paths().cgroup;
    match written_cgroup(context, id) {
        Some(name) => Cgroup::below(root, &name)?.update(root, &settings(resources)?),
        None => Err(CgroupError::Path { path: String::new() }),
    }
}

/// The cgroup that a run has written down, from the root of the hierarchy.
fn written_cgroup(context: &Context, id: &str) -> Option<String> {
    let path = RunPaths::new(context, id).run.join("cgroup");
    std::fs::read_to_string(path).ok().filter(|name| !name.is_empty())
}

/// Gives up a run of which anything may exist, but which does not count: first makes sure that no helper of a former agent
/// still works on it.
pub(crate) async fn roll_back(context: &Context, id: &str) -> Result<(), ContainerError> {
    let lock = RunPaths::new(context, id).run.join("lock");
    sandbox::withdraw(&lock).await.map_err(ContainerError::Remove)?;
    remove(context, id).await
}

/// The same for what no record names, and whose cgroup may have been found below that of a pod of the node's own.
pub(crate) async fn sweep(context: &Context, uid: &str, id: &str) -> Result<(), ContainerError> {
    roll_back(context, id).await?;
    if uid.is_empty() {
        return Ok(());
    }
    let cgroup = Cgroup::of_pod(&context.paths().cgroup, uid).of_container(id);
    cgroup.kill()?;
    sandbox::wait_until_empty(&cgroup).await.map_err(ContainerError::Remove)?;
    Ok(cgroup.remove()?)
}

/// Takes everything of a run out of the kernel that has ended, or is to end: processes, cgroup, descriptors. Its writable
/// layer and its folder stay. `config`: what it was, where that is known.
pub(crate) async fn release(
    context: &Context,
    id: &str,
    config: Option<&ContainerConfig>,
) -> Result<(), ContainerError> {
    if let Some(name) = written_cgroup(context, id) {
        let cgroup = Cgroup::below(&context.paths().cgroup, &name)?;
        cgroup.kill()?;
        sandbox::wait_until_empty(&cgroup).await.map_err(ContainerError::Remove)?;
        cgroup.remove()?;
    }
    io::forget(context, id, io::kept(config)).await
}

/// Removes everything of a run, in whatever state it was left. Nothing of it is there afterwards, or it is an error.
pub(crate) async fn remove(context: &Context, id: &str) -> Result<(), ContainerError> {
    release(context, id, None).await?;
    remove_folders(context, id).await
}

/// Removes what is left of a run once it was released.
pub(crate) async fn remove_folders(context: &Context, id: &str) -> Result<(), ContainerError> {
    let RunPaths { run, var } = RunPaths::new(context, id);
    let removed = tokio::task::spawn_blocking(move || {
        [var, run].iter().try_for_each(|path| sandbox::remove_folder(path))
    });
    removed.await.map_err(|_| ContainerError::Ending)?.map_err(ContainerError::Remove)
}
