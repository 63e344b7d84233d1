//! What the containers of a pod share: namespaces, addresses, volumes, three small files in /etc. Made before the first
//! container, removed after the last.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ingot_linux::unmount;
use ingot_runc_api::{Request, Sandbox, Tmpfs};

use crate::cgroup::{Cgroup, CgroupError, pod_settings};
use crate::context::Context;
use crate::network::NetworkError;
use crate::pod::{Pod, VolumeKind};
use crate::record::PodRecord;
use crate::runc::{self, RuncError};

/// Size of a pod's /dev/shm: Docker's and containerd's default.
const SHM_BYTES: u64 = 64 << 20;

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
    /// Its namespaces.
    #[error("make the namespaces of the pod")]
    Namespaces(#[source] RuncError),
    /// Its place on the bridge.
    #[error("connect the pod to the network")]
    Network(#[from] NetworkError),
    /// The blocking work was cut off: the agent ends.
    #[error("the agent is ending")]
    Ending,
}

/// Folder with the pinned namespaces.
pub(crate) fn namespaces(context: &Context, uid: &str) -> PathBuf {
    context.pod_run(uid).join("ns")
}

/// Folder with `resolv.conf`, `hosts` and `hostname`.
pub(crate) fn etc(context: &Context, uid: &str) -> PathBuf {
    context.pod_run(uid).join("etc")
}

/// Folder that is /dev/shm in every container of the pod.
pub(crate) fn shm(context: &Context, uid: &str) -> PathBuf {
    context.pod_run(uid).join("shm")
}

/// Where each volume is on the node.
pub(crate) fn volumes(context: &Context, pod: &Pod) -> Vec<(String, PathBuf)> {
    let place = |volume: &crate::pod::Volume| match &volume.kind {
        VolumeKind::EmptyDir { .. } => {
            PodRecord::folder(&context.paths().var, &pod.uid).join("volumes").join(&volume.name)
        }
        VolumeKind::EmptyDirMemory { .. } => {
            context.pod_run(&pod.uid).join("volumes").join(&volume.name)
        }
        VolumeKind::HostPath { path } => path.into(),
    };
    pod.volumes.iter().map(|volume| (volume.name.clone(), place(volume))).collect()
}

/// Makes the sandbox, where nothing of it exists.
pub(crate) async fn build(
    context: &Context,
    pod: &Pod,
    addresses: &[IpAddr],
) -> Result<(), SandboxError> {
    let cgroup = Cgroup::of_pod(&context.paths().cgroup, &pod.uid);
    cgroup.create(&context.paths().cgroup, &pod_settings(pod))?;
    let shared = shm(context, &pod.uid);
    let mut tmpfs = vec![Tmpfs { path: shared, size_bytes: Some(SHM_BYTES), sticky: true }];
    for (volume, (_, path)) in pod.volumes.iter().zip(volumes(context, pod)) {
        match volume.kind {
            VolumeKind::HostPath { .. } => {}
            VolumeKind::EmptyDir { .. } => make_volume(&path)?,
            VolumeKind::EmptyDirMemory { size_limit_bytes } => {
                make_volume(&path)?;
                tmpfs.push(Tmpfs { path, size_bytes: size_limit_bytes, sticky: false });
            }
        }
    }
    let folder = namespaces(context, &pod.uid);
    for folder in [&folder, &etc(context, &pod.uid), &shm(context, &pod.uid)] {
        make_folder(folder)?;
    }
    let request = Request::Sandbox(Sandbox {
        folder: folder.clone(),
        hostname: hostname(pod).to_owned(),
        network: !pod.host_network,
        tmpfs,
    });
    let program = context.paths().runc.clone();
    let helper = tokio::task::spawn_blocking(move || runc::run(&program, &request, &[]));
    helper.await.map_err(|_| SandboxError::Ending)?.map_err(SandboxError::Namespaces)?;
    if !pod.host_network {
        context.load_module("bridge").await;
        context.load_module("veth").await;
        context.network.attach(&pod.uid, &folder.join("net"), addresses).await?;
    }
    write_etc(context, pod, addresses)
}

/// Removes everything that [`build`] made, in whatever state it was left. The volumes on disk stay: they live as long as
/// the pod.
pub(crate) async fn tear_down(context: &Context, uid: &str) -> Result<(), SandboxError> {
    let folder = context.pod_run(uid);
    let removed = |path: &Path| {
        let path = path.to_owned();
        move |source| SandboxError::Remove { path, source }
    };
    context.network.detach(uid).await?;
    for inside in ["ns", "volumes"] {
        let Ok(entries) = std::fs::read_dir(folder.join(inside)) else { continue };
        for entry in entries.flatten() {
            unmount::detach(&entry.path()).map_err(removed(&entry.path()))?;
        }
    }
    unmount::detach(&folder.join("shm")).map_err(removed(&folder.join("shm")))?;
    remove_folder(&folder)?;
    Cgroup::of_pod(&context.paths().cgroup, uid).remove()?;
    Ok(())
}

/// Writes what the containers see as /etc/resolv.conf, /etc/hosts and /etc/hostname.
pub(crate) fn write_etc(
    context: &Context,
    pod: &Pod,
    addresses: &[IpAddr],
) -> Result<(), SandboxError> {
    let folder = etc(context, &pod.uid);
    let node = context.paths().run.join("etc");
    // Written in place, not by rename: containers have the very file mounted.
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|source| SandboxError::Prepare { path, source })
    };
    // A node without a resolver yet gives its pods an empty file.
    write("resolv.conf", &std::fs::read_to_string(node.join("resolv.conf")).unwrap_or_default())?;
    if pod.host_network {
        let copy = |name| std::fs::read_to_string(node.join(name)).unwrap_or_default();
        write("hosts", &copy("hosts"))?;
        return write("hostname", &copy("hostname"));
    }
    let mut hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    for address in addresses {
        hosts.push_str(&format!("{address} {}\n", hostname(pod)));
    }
    write("hosts", &hosts)?;
    write("hostname", &format!("{}\n", hostname(pod)))
}

/// Name of the pod inside: its own, at most 63 bytes as the kernel and DNS allow.
fn hostname(pod: &Pod) -> &str {
    let name = if pod.hostname.is_empty() { &pod.name } else { &pod.hostname };
    name.get(..63).unwrap_or(name).trim_end_matches(['-', '.'])
}

fn make_folder(path: &Path) -> Result<(), SandboxError> {
    std::fs::create_dir_all(path)
        .map_err(|source| SandboxError::Prepare { path: path.to_owned(), source })
}

/// A volume belongs to whoever runs in the pod, so everybody may write, as in Kubernetes.
fn make_volume(path: &Path) -> Result<(), SandboxError> {
    use std::os::unix::fs::PermissionsExt as _;
    make_folder(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
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
