//! One run of a container: made step by step, started, and taken apart again. Every step can be repeated.
//!
//! Order of a start, each written down before it is done (see `pod_task`):
//! 1. record: "run ID is being created"; from here on everything named ID may be thrown away;
//! 2. folders, pipes (the read ends also with PID 1), cgroup with its limits, spec;
//! 3. `ingot-runc` builds the container; its first process waits;
//! 4. PID 1 watches that process;
//! 5. record: "run ID is process P"; from here on the run counts;
//! 6. a connection to the waiting process starts the program; doing it again does nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingot_init_api::Name;
use ingot_linux::{file_lock, pipe};
use ingot_runc_api::{Create, Created, Overlay, Reply, Request};

use crate::cgroup::{Cgroup, CgroupError, container_settings};
use crate::context::Context;
use crate::image::Image;
use crate::logs::LogStream;
use crate::logs::writer::LogPaths;
use crate::pid1::Pid1Error;
use crate::pod::{Container, Pod};
use crate::runc::{self, RuncError};
use crate::sandbox::{self, SandboxError};
use crate::spec::{self, ProcessError};

/// Room in a pipe: what a container may write while the agent restarts, before it has to wait.
const PIPE_BYTES: usize = 1 << 20;

/// How long a killed cgroup may take to become empty.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// How long a helper of a former agent may go on with a container that is being given up.
const HELPER_DEADLINE: Duration = Duration::from_secs(70);

/// Pause between two looks at something that cannot be waited for otherwise.
const POLL: Duration = Duration::from_millis(20);

/// Why a container could not be made, started or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    /// A file or folder of it.
    #[error("prepare {path}")]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It cannot be described.
    #[error(transparent)]
    Spec(#[from] ProcessError),
    /// Its cgroup.
    #[error("set up the cgroup of the container")]
    Cgroup(#[from] CgroupError),
    /// Its pipes.
    #[error("make the pipes of the container")]
    Pipes(#[source] io::Error),
    /// Something that only PID 1 can do.
    #[error("ask PID 1")]
    Pid1(#[from] Pid1Error),
    /// Building it.
    #[error("build the container")]
    Build(#[source] RuncError),
    /// Starting its program.
    #[error("start the program")]
    Start(#[source] io::Error),
    /// Something of it would not go away.
    #[error("remove the container")]
    Remove(#[source] SandboxError),
    /// Its processes did not die.
    #[error("processes of {path} are still there {} s after they were killed", KILL_DEADLINE.as_secs())]
    StillPopulated { path: PathBuf },
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
pub(crate) struct Built {
    pub(crate) created: Created,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Paths of one run.
pub(crate) struct RunPaths {
    /// What it needs for this boot.
    pub(crate) run: PathBuf,
    /// Its writable layer.
    pub(crate) var: PathBuf,
    /// What libcontainer keeps.
    pub(crate) state: PathBuf,
}

impl RunPaths {
    pub(crate) fn new(context: &Context, id: &str) -> Self {
        let paths = context.paths();
        Self {
            run: paths.run.join("containers").join(id),
            var: paths.var.join("containers").join(id),
            state: paths.run.join("runc").join(id),
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

/// Name under which PID 1 keeps the read end of a pipe.
pub(crate) fn pipe_name(id: &str, stream: LogStream) -> Result<Name, io::Error> {
    Name::new(&format!("{id}.{}", stream.as_str())).map_err(io::Error::other)
}

/// Steps 2 and 3.
pub(crate) async fn build(
    context: &Context,
    pod: &Pod,
    container: &Container,
    image: &Image,
    id: &str,
) -> Result<Built, ContainerError> {
    let paths = RunPaths::new(context, id);
    let rootfs = paths.run.join("rootfs");
    let bundle = paths.run.join("bundle");
    let (upper, work) = (paths.var.join("upper"), paths.var.join("work"));
    for folder in [&rootfs, &bundle, &upper, &work] {
        make_folder(folder)?;
    }
    make_folder(&context.paths().logs.join(&pod.uid).join(&container.name))?;
    let lock = paths.run.join("lock");
    write_file(&lock, b"")?;
    let (stdout, stdout_write) = pipe::with_size(PIPE_BYTES).map_err(ContainerError::Pipes)?;
    let (stderr, stderr_write) = pipe::with_size(PIPE_BYTES).map_err(ContainerError::Pipes)?;
    for (stream, read) in [(LogStream::Stdout, &stdout), (LogStream::Stderr, &stderr)] {
        let copy = read.try_clone().map_err(ContainerError::Pipes)?;
        let name = pipe_name(id, stream).map_err(ContainerError::Pipes)?;
        context.pid1.store_fd(name, copy).await?;
    }
    let pod_cgroup = Cgroup::of_pod(&context.paths().cgroup, &pod.uid);
    let cgroup = pod_cgroup.of_container(id);
    cgroup.create(
        &context.paths().cgroup,
        &container_settings(&container.resources, pod.pids_limit),
    )?;
    write_spec(context, pod, container, image, &bundle, &rootfs, id)?;
    context.load_module("overlay").await;
    let request = Request::Create(Create {
        id: id.to_owned(),
        bundle,
        state_root: context.paths().run.join("runc"),
        lock,
        created: paths.run.join("created.json"),
        overlay: Overlay { lower: image.rootfs.clone(), upper, work, merged: rootfs },
        cgroup: cgroup.path().to_owned(),
        all_devices: container.security.privileged,
    });
    // libcontainer removes the cgroup when it fails, and with it the count; the pod's count includes it and stays.
    let killed = |cgroup: &Cgroup| cgroup.flag("memory.events", "oom_kill").unwrap_or(0);
    let killed_before = killed(&pod_cgroup);
    let program = context.paths().runc.clone();
    let descriptors = [stdout_write, stderr_write];
    let helper = tokio::task::spawn_blocking(move || runc::run(&program, &request, &descriptors));
    match helper.await.map_err(|_| ContainerError::Ending)? {
        Ok(Reply::Created(created)) => Ok(Built { created, stdout, stderr }),
        Ok(_) => Err(ContainerError::Build(RuncError::Failed("a wrong answer".to_owned()))),
        Err(error) => Err(match container.resources.memory_limit_bytes {
            Some(limit_bytes) if killed(&pod_cgroup) > killed_before => {
                ContainerError::MemoryLimitTooSmall { limit_bytes }
            }
            _ => ContainerError::Build(error),
        }),
    }
}

fn write_spec(
    context: &Context,
    pod: &Pod,
    container: &Container,
    image: &Image,
    bundle: &Path,
    rootfs: &Path,
    id: &str,
) -> Result<(), ContainerError> {
    // An image without account files has only the users it names by number.
    let account = |file: &str| std::fs::read_to_string(image.rootfs.join(file)).unwrap_or_default();
    let (passwd, group) = (account("etc/passwd"), account("etc/group"));
    let user = spec::find_user(container, &image.config.user, &passwd, &group)?;
    let spec = spec::build(&spec::Input {
        pod,
        container,
        image: &image.config,
        user: &user,
        rootfs,
        cgroup: &format!("/pods/{}/{id}", pod.uid),
        namespaces: &sandbox::namespaces(context, &pod.uid),
        etc: &sandbox::etc(context, &pod.uid),
        shm: &sandbox::shm(context, &pod.uid),
        volumes: &sandbox::volumes(context, pod),
        node_memory_bytes: node_memory_bytes(),
    })?;
    write_file(&bundle.join("config.json"), spec.to_string().as_bytes())
}

/// Memory of the node; 0 when /proc does not say.
fn node_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Step 6. A process that does not wait any more was started before.
pub(crate) async fn start(context: &Context, id: &str) -> Result<(), ContainerError> {
    let socket = RunPaths::new(context, id).state.join("notify.sock");
    match tokio::net::UnixStream::connect(&socket).await {
        Ok(_connection) => Ok(()),
        Err(e)
            if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
        {
            Ok(())
        }
        Err(e) => Err(ContainerError::Start(e)),
    }
}

/// Gives up a run of which anything may exist, but which does not count: first makes sure that no helper of a former agent
/// still works on it.
pub(crate) async fn roll_back(
    context: &Context,
    uid: &str,
    id: &str,
) -> Result<(), ContainerError> {
    let lock = RunPaths::new(context, id).run.join("lock");
    let free = async {
        loop {
            match file_lock::withdraw(&lock) {
                Ok(true) => return Ok(()),
                Ok(false) => tokio::time::sleep(POLL).await,
                Err(source) => {
                    return Err(ContainerError::Prepare { path: lock.clone(), source });
                }
            }
        }
    };
    // After the deadline the helper hangs; killing what it has built so far is all that is left.
    let _ = tokio::time::timeout(HELPER_DEADLINE, free).await;
    remove(context, uid, id).await
}

/// Removes everything of a run, in whatever state it was left. Nothing of it is there afterwards, or it is an error.
pub(crate) async fn remove(context: &Context, uid: &str, id: &str) -> Result<(), ContainerError> {
    let cgroup = Cgroup::of_pod(&context.paths().cgroup, uid).of_container(id);
    cgroup.kill()?;
    let empty = async {
        while cgroup.is_populated() {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(KILL_DEADLINE, empty).await.is_err() {
        return Err(ContainerError::StillPopulated { path: cgroup.path().to_owned() });
    }
    cgroup.remove()?;
    for stream in [LogStream::Stdout, LogStream::Stderr] {
        let name = pipe_name(id, stream).map_err(ContainerError::Pipes)?;
        context.pid1.drop_fd(name).await?;
    }
    let RunPaths { run, var, state } = RunPaths::new(context, id);
    let removed = tokio::task::spawn_blocking(move || {
        [state, var, run].iter().try_for_each(|path| sandbox::remove_folder(path))
    });
    removed.await.map_err(|_| ContainerError::Ending)?.map_err(ContainerError::Remove)
}

fn make_folder(path: &Path) -> Result<(), ContainerError> {
    std::fs::create_dir_all(path)
        .map_err(|source| ContainerError::Prepare { path: path.to_owned(), source })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ContainerError> {
    std::fs::write(path, bytes)
        .map_err(|source| ContainerError::Prepare { path: path.to_owned(), source })
}
