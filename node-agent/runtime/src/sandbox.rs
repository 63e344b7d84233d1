//! What the containers of a pod share: namespaces, cgroup, addresses, volumes in memory, three small files in /etc. Made
//! before the first container, removed after the last.
//!
//! Layout of the folder of a sandbox, on the tmpfs of /run: `lock` (held by a helper at work), `cgroup` (path of the cgroup
//! to remove), `ns/` (pinned namespaces), `shared/{shm,etc}` (one small tmpfs), `volumes/<name>` (a tmpfs each).

mod etc;

pub(crate) use etc::write_etc;

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingot_linux::{file_lock, unmount};
use ingot_runc_api::{Request, Sandbox, Tmpfs};

use crate::cgroup::{Cgroup, CgroupError, settings};
use crate::config::{NamespaceMode, Resources, SandboxConfig};
use crate::context::Context;
use crate::network::NetworkError;
use crate::runc::{self, RuncError};
use crate::spec;
use crate::sysctl::{self, SysctlError};

/// Size of a pod's /dev/shm: Docker's and containerd's default.
const SHM_BYTES: u64 = 64 << 20;

/// Room for the files in /etc on the same tmpfs: what a container writes there is bounded, and its own.
const ETC_BYTES: u64 = 256 << 10;

/// How long a helper of a former agent may go on with something that is being given up.
pub(crate) const HELPER_DEADLINE: Duration = Duration::from_secs(70);

/// How long killed processes may take to go.
pub(crate) const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Pause between two looks at something that cannot be waited for otherwise.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Why a sandbox could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// A folder or file of it.
    #[error("prepare {path}")]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Something of it would not go away.
    #[error("remove {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Its cgroup.
    #[error("set up the cgroup of the pod")]
    Cgroup(#[from] CgroupError),
    /// A kernel parameter that it may not set.
    #[error("check the kernel parameters of the pod")]
    Sysctl(#[from] SysctlError),
    /// A name that cannot be one.
    #[error("{name:?} cannot be the name of a volume or host")]
    Name { name: String },
    /// Its namespaces.
    #[error("make the namespaces of the pod")]
    Namespaces(#[source] RuncError),
    /// Its place on the bridge.
    #[error("connect the pod to the network")]
    Network(#[from] NetworkError),
    /// Its processes did not die.
    #[error("processes of {path} are still there {} s after they were killed", KILL_DEADLINE.as_secs())]
    StillPopulated { path: PathBuf },
    /// The blocking work was cut off: the agent ends.
    #[error("the agent is ending")]
    Ending,
}

/// Folder with the pinned namespaces.
pub(crate) fn namespaces(context: &Context, key: &str) -> PathBuf {
    context.pod_run(key).join("ns")
}

/// Folder with `resolv.conf`, `hosts` and `hostname`.
pub(crate) fn etc(context: &Context, key: &str) -> PathBuf {
    context.pod_run(key).join("shared/etc")
}

/// Folder that is /dev/shm in every container of the pod.
pub(crate) fn shm(context: &Context, key: &str) -> PathBuf {
    context.pod_run(key).join("shared/shm")
}

/// Folder with the volumes in memory.
pub(crate) fn volumes(context: &Context, key: &str) -> PathBuf {
    context.pod_run(key).join("volumes")
}

/// The cgroup in which the containers of the sandbox have theirs.
pub(crate) fn cgroup(
    context: &Context,
    key: &str,
    config: &SandboxConfig,
) -> Result<Cgroup, CgroupError> {
    Cgroup::of_sandbox(&context.paths().cgroup, key, config)
}

/// Makes the sandbox, where nothing of it exists. Returns its addresses: with plugins they are known only afterwards.
pub(crate) async fn build(
    context: &Context,
    key: &str,
    config: &SandboxConfig,
    addresses: &[IpAddr],
) -> Result<Vec<IpAddr>, SandboxError> {
    let folder = context.pod_run(key);
    let (cgroup, first_process) = cgroups(context, key, config)?;
    let request = request(&folder, config, first_process.as_ref())?;
    let settings = settings(&config.resources)?;
    let (root, program) = (context.paths().cgroup.clone(), context.paths().runc.clone());
    let own = owns_cgroup(config).then_some(cgroup);
    let helper = tokio::task::spawn_blocking(move || {
        prepare(&folder, &request)?;
        if let Some(named) = own.as_ref().or(first_process.as_ref()) {
            write(&folder.join("cgroup"), named.name(&root).as_bytes())?;
        }
        if let Some(own) = &own {
            own.create(&root, &settings)?;
            own.delegate()?;
        }
        if let Some(first) = &first_process {
            first.create(&root, &crate::cgroup::Settings::new())?;
        }
        let request = Request::Sandbox(request);
        runc::run(&program, &request, &[]).map_err(SandboxError::Namespaces)
    });
    helper.await.map_err(|_| SandboxError::Ending)??;
    let mut addresses = addresses.to_vec();
    if config.namespaces.network != NamespaceMode::Node {
        let namespace = namespaces(context, key).join("net");
        addresses = context.network.attach(key, &namespace, &addresses, config).await?;
    }
    write_etc(context, key, config, &addresses)?;
    Ok(addresses)
}

/// Changes the limits of the whole pod: all that are given, or none and an error. Nothing is done to a cgroup that belongs to
/// the caller.
pub(crate) fn update(
    context: &Context,
    key: &str,
    config: &SandboxConfig,
    resources: &Resources,
) -> Result<(), CgroupError> {
    if !owns_cgroup(config) {
        return Ok(());
    }
    cgroup(context, key, config)?.update(&context.paths().cgroup, &settings(resources)?)
}

/// Whether the runtime makes the cgroup of the pod, and removes it.
fn owns_cgroup(config: &SandboxConfig) -> bool {
    !config.cgroup_parent_is_pod || config.cgroup_parent.is_empty()
}

/// The cgroup of the pod, and that of the process that only reaps, when there is one.
fn cgroups(
    context: &Context,
    key: &str,
    config: &SandboxConfig,
) -> Result<(Cgroup, Option<Cgroup>), CgroupError> {
    let cgroup = cgroup(context, key, config)?;
    // In a cgroup of somebody else the name says whose it is.
    let name = if owns_cgroup(config) { "init" } else { key };
    let first = shares_pids(config).then(|| cgroup.of_container(name));
    Ok((cgroup, first))
}

/// Whether its containers see each other's processes, and so depend on a first process that is none of theirs.
pub(crate) fn shares_pids(config: &SandboxConfig) -> bool {
    config.namespaces.pid == NamespaceMode::Pod
}

/// Pid and start time of the first process of a pod that shares one PID namespace; `None` when it has ended, and with it
/// every process of the pod.
pub(crate) fn first_process(
    context: &Context,
    key: &str,
    config: &SandboxConfig,
) -> Option<(i32, u64)> {
    let (_, first) = cgroups(context, key, config).ok()?;
    let pid = first?.text("cgroup.procs").lines().next()?.parse().ok()?;
    Some((pid, ingot_linux::process::start_time(pid).ok()?))
}

fn request(
    folder: &Path,
    config: &SandboxConfig,
    first_process: Option<&Cgroup>,
) -> Result<Sandbox, SandboxError> {
    let namespaces = &config.namespaces;
    let name = |name: &str| SandboxError::Name { name: name.to_owned() };
    if config.hostname.len() > 64 || config.hostname.contains(['\0', '\n']) {
        return Err(name(&config.hostname));
    }
    let sysctls = sysctl::checked(&config.sysctls, namespaces)?;
    let size = config.shm_size_bytes.unwrap_or(SHM_BYTES).saturating_add(ETC_BYTES);
    let mut tmpfs =
        vec![Tmpfs { path: folder.join("shared"), size_bytes: Some(size), mode: 0o711 }];
    for (volume, size_bytes) in &config.memory_volumes {
        if !crate::pod::is_safe_name(volume) {
            return Err(name(volume));
        }
        let path = folder.join("volumes").join(volume);
        tmpfs.push(Tmpfs { path, size_bytes: *size_bytes, mode: 0o777 });
    }
    Ok(Sandbox {
        folder: folder.join("ns"),
        lock: folder.join("lock"),
        hostname: spec::has_uts(config).then(|| config.hostname.clone()),
        network: namespaces.network != NamespaceMode::Node,
        ipc: namespaces.ipc != NamespaceMode::Node,
        pid: first_process.map(|cgroup| cgroup.path().to_owned()),
        user: namespaces.user.as_ref().map(spec::mappings),
        sysctls,
        tmpfs,
    })
}

/// Folders and the lock. What belongs to the runtime is closed to everybody but root; processes of a user namespace, which
/// are not root here, may pass through the folders of their own pod.
fn prepare(folder: &Path, request: &Sandbox) -> Result<(), SandboxError> {
    let mode = if request.user.is_some() { 0o711 } else { 0o700 };
    let inside = request.tmpfs.iter().map(|tmpfs| tmpfs.path.as_path());
    for path in [folder, request.folder.as_path()].into_iter().chain(inside) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|source| SandboxError::Prepare { path: path.to_owned(), source })?;
    }
    write(&request.lock, b"")
}

/// Removes everything that [`build`] made, in whatever state it was left; first makes sure that no helper of a former agent
/// still works on it. The volumes on disk stay: they live as long as the pod.
pub(crate) async fn tear_down(context: &Context, key: &str) -> Result<(), SandboxError> {
    let folder = context.pod_run(key);
    withdraw(&folder.join("lock")).await?;
    context.network.detach(key).await?;
    let root = &context.paths().cgroup;
    let own = std::fs::read_to_string(folder.join("cgroup")).ok();
    let cgroup = match own.as_deref() {
        Some(name) if !name.is_empty() => Cgroup::below(root, name)?,
        _ => Cgroup::of_pod(root, key),
    };
    cgroup.kill()?;
    wait_until_empty(&cgroup).await?;
    let removed = tokio::task::spawn_blocking(move || {
        remove_mounts(&folder)?;
        cgroup.remove()?;
        remove_folder(&folder)
    });
    removed.await.map_err(|_| SandboxError::Ending)?
}

/// Waits until no helper works on what `lock` stands for, and sees to it that none begins.
pub(crate) async fn withdraw(lock: &Path) -> Result<(), SandboxError> {
    let free = async {
        loop {
            match file_lock::withdraw(lock) {
                Ok(true) => return Ok(()),
                Ok(false) => tokio::time::sleep(POLL).await,
                Err(source) => {
                    return Err(SandboxError::Prepare { path: lock.to_owned(), source });
                }
            }
        }
    };
    // After the deadline the helper hangs; killing what it has built so far is all that is left.
    tokio::time::timeout(HELPER_DEADLINE, free).await.unwrap_or(Ok(()))
}

/// Waits until the killed processes of a cgroup are gone.
pub(crate) async fn wait_until_empty(cgroup: &Cgroup) -> Result<(), SandboxError> {
    let empty = async {
        if let Ok(Some(changes)) = cgroup.changes() {
            // What is not told in this way is looked for below.
            let _ = changes.until_empty().await;
        }
        while cgroup.is_populated() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(KILL_DEADLINE, empty)
        .await
        .map_err(|_| SandboxError::StillPopulated { path: cgroup.path().to_owned() })
}

fn remove_mounts(folder: &Path) -> Result<(), SandboxError> {
    let detach = |path: &Path| {
        unmount::detach(path)
            .map_err(|source| SandboxError::Remove { path: path.to_owned(), source })
    };
    for inside in ["ns", "volumes"] {
        let Ok(entries) = std::fs::read_dir(folder.join(inside)) else { continue };
        for entry in entries.flatten() {
            detach(&entry.path())?;
        }
    }
    detach(&folder.join("shared"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SandboxError> {
    std::fs::write(path, bytes)
        .map_err(|source| SandboxError::Prepare { path: path.to_owned(), source })
}

/// Removes a folder with all that is in it; one that is not there is fine.
pub(crate) fn remove_folder(path: &Path) -> Result<(), SandboxError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SandboxError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
