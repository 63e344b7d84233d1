//! The OCI spec of a container: a pure function of sandbox, container, image and a few paths. No I/O.
//!
//! The helper refuses what it does not know, so a field that is new here is new there, too.

mod capabilities;
mod mounts;
mod process;
mod profile;
mod seccomp;
mod seccomp_local;
mod user;

pub(crate) use mounts::{Mounts, mappings};
pub(crate) use process::Environment;
pub(crate) use profile::Profile;
pub(crate) use user::{Accounts, User, find as find_user};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ingot_images::ImageConfig;
use serde_json::{Value, json};

use crate::config::{ContainerConfig, NamespaceMode, SandboxConfig, SecurityProfile};
use crate::device::Node;

/// Everything the spec depends on.
pub(crate) struct Input<'a> {
    /// The sandbox.
    pub(crate) sandbox: &'a SandboxConfig,
    /// The container.
    pub(crate) config: &'a ContainerConfig,
    /// What the image says.
    pub(crate) image: &'a ImageConfig,
    /// Who the program runs as, from container, image and the image's /etc/passwd.
    pub(crate) user: &'a User,
    /// Absolute path of the root file system.
    pub(crate) rootfs: &'a Path,
    /// Path of the cgroup from the root of the hierarchy, with the leading slash.
    pub(crate) cgroup: &'a str,
    /// Folder with the pinned namespaces.
    pub(crate) namespaces: &'a Path,
    /// The PID namespace of another container that it joins.
    pub(crate) target_pid: Option<&'a Path>,
    /// Folder with `resolv.conf`, `hosts` and `hostname`.
    pub(crate) etc: &'a Path,
    /// Folder that all containers of the pod see as /dev/shm.
    pub(crate) shm: &'a Path,
    /// Folder with the volumes in memory.
    pub(crate) volumes: &'a Path,
    /// Folder in which the helper prepares mounts.
    pub(crate) stage: &'a Path,
    /// Layers of the images that are mounted, the topmost first.
    pub(crate) images: &'a [(String, Vec<PathBuf>)],
    /// Device nodes.
    pub(crate) devices: &'a [Node],
    /// The AppArmor profile to apply.
    pub(crate) apparmor: Option<&'a str>,
    /// What is in the file of a local seccomp profile.
    pub(crate) seccomp: Option<&'a str>,
}

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SpecError {
    /// Neither container nor image says what to execute.
    #[error("neither the pod nor the image says what to execute; set command")]
    NothingToExecute,
    /// An argument that execve(2) cannot pass.
    #[error("an argument of the command holds a zero byte")]
    Arguments,
    /// A variable that execve(2) cannot pass.
    #[error("the environment variable {name:?} has a name or value that no program can get")]
    Environment { name: String },
    /// The user is a name that the image does not know.
    #[error("the image has no user {user:?}; set securityContext.runAsUser")]
    NoUser { user: String },
    /// The group is a name that the image does not know.
    #[error("the image has no group {group:?}; set securityContext.runAsGroup")]
    NoGroup { group: String },
    /// The kernel has another use for that number.
    #[error("4294967295 is not the id of a user or group")]
    NoId,
    /// The user namespace does not have that id.
    #[error("id {id} is not mapped in the user namespace of the pod")]
    NotMapped { id: u32 },
    /// A mount names a volume that the pod does not have.
    #[error("the pod has no volume {volume:?}")]
    NoVolume { volume: String },
    /// A mount names an image that the node does not have.
    #[error("image {image:?} to be mounted is not there")]
    NoImage { image: String },
    /// A path that is not what it should be.
    #[error(
        "{path:?} is not a path that can be used here: it must not go up, and be absolute in a container"
    )]
    Path { path: String },
    /// A place that belongs to the runtime.
    #[error("nothing can be mounted on {path}")]
    MountPoint { path: String },
    /// Recursive read-only needs read-only, and no propagation.
    #[error(
        "the mount on {path} can be recursively read-only only when it is read-only and private"
    )]
    RecursiveReadOnly { path: String },
    /// Mounts of a container that appear on the node.
    #[error("the mount on {path} is bidirectional, which needs a privileged container")]
    Bidirectional { path: String },
    /// The kernel lets nothing out of a user namespace.
    #[error("the mount on {path} is bidirectional, which no pod with a user namespace can have")]
    BidirectionalInUserNamespace { path: String },
    /// A capability that Linux does not have.
    #[error("there is no capability {name:?}")]
    NoCapability { name: String },
    /// A seccomp profile that cannot be used.
    #[error("the seccomp profile cannot be used: {problem}")]
    Seccomp { problem: String },
}

/// What a container may not see of /proc and /sys: runc's and Kubernetes' list.
const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/interrupts",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What it may only read.
const READ_ONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A container, described.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Described {
    /// The OCI spec, but for the profile of system calls.
    pub(crate) spec: Value,
    /// The environment, to the byte.
    pub(crate) environment: Environment,
    /// Mounts for the helper.
    pub(crate) mounts: Mounts,
    /// The profile of its system calls, of which the spec has the digest.
    pub(crate) seccomp: Option<Arc<Profile>>,
}

/// Describes a container.
pub(crate) fn build(input: &Input<'_>) -> Result<Described, SpecError> {
    let security = &input.config.security;
    let capabilities = capabilities::of(security)
        .map_err(|capabilities::Unknown(name)| SpecError::NoCapability { name })?;
    check_ids(input)?;
    let mounts = mounts::build(input)?;
    let environment = process::environment(input)?;
    let seccomp = seccomp(input, &capabilities)?;
    let mut linux = json!({
        "cgroupsPath": input.cgroup,
        "namespaces": namespaces(input),
        "devices": input.devices.iter().map(Node::to_spec).collect::<Vec<_>>(),
        // Like runc: mounts can travel to the node only when those above them can.
        "rootfsPropagation": if mounts.shared { "shared" } else { "slave" },
    });
    if !security.privileged {
        let list = |own: &Option<Vec<String>>, default: &[&str]| match own {
            Some(own) => json!(own),
            None => json!(default),
        };
        linux["maskedPaths"] = list(&security.masked_paths, MASKED_PATHS);
        linux["readonlyPaths"] = list(&security.read_only_paths, READ_ONLY_PATHS);
    }
    if let Some(profile) = &seccomp {
        linux["seccomp"] = json!(profile.digest);
    }
    let spec = json!({
        "ociVersion": "1.2.0",
        "root": { "path": input.rootfs, "readonly": security.read_only_root },
        "process": process::build(input, &capabilities, &environment)?,
        "mounts": mounts.spec,
        "linux": linux,
    });
    Ok(Described { spec, environment, mounts, seccomp })
}

/// The profile of its system calls. A privileged container has none.
fn seccomp(
    input: &Input<'_>,
    capabilities: &capabilities::Capabilities,
) -> Result<Option<Arc<Profile>>, SpecError> {
    let security = &input.config.security;
    Ok(match &security.seccomp {
        _ if security.privileged => None,
        SecurityProfile::Unconfined => None,
        SecurityProfile::RuntimeDefault => Some(profile::known(&capabilities.bounding)),
        SecurityProfile::Localhost(_) => {
            // An empty profile would be no profile (CVE-2023-2431).
            let profile = seccomp_local::parse(input.seccomp.unwrap_or_default())?;
            Some(Arc::new(Profile::new(&profile)))
        }
    })
}

/// Every id that the program starts with must be one that its user namespace has.
fn check_ids(input: &Input<'_>) -> Result<(), SpecError> {
    let Some(user) = &input.sandbox.namespaces.user else { return Ok(()) };
    let mapped = |range: crate::config::IdMapping, id: u32| {
        id >= range.container_id && id - range.container_id < range.length
    };
    if !mapped(user.uids, input.user.uid) {
        return Err(SpecError::NotMapped { id: input.user.uid });
    }
    match input.user.groups.iter().find(|gid| !mapped(user.gids, **gid)) {
        Some(gid) => Err(SpecError::NotMapped { id: *gid }),
        None => Ok(()),
    }
}

/// Whether the sandbox has a host name of its own.
pub(crate) fn has_uts(sandbox: &SandboxConfig) -> bool {
    sandbox.namespaces.network != NamespaceMode::Node || !sandbox.hostname.is_empty()
}

fn namespaces(input: &Input<'_>) -> Value {
    let of_pod = &input.sandbox.namespaces;
    let pinned =
        |kind: &str, file: &str| json!({"type": kind, "path": input.namespaces.join(file)});
    let mut list = vec![json!({"type": "mount"}), json!({"type": "cgroup"})];
    match (&input.config.namespaces.pid, &of_pod.pid) {
        (NamespaceMode::Node, _) | (NamespaceMode::Pod, NamespaceMode::Node) => {}
        (NamespaceMode::Pod, NamespaceMode::Pod) => list.push(pinned("pid", "pid")),
        (NamespaceMode::Target(_), _) => {
            list.push(json!({"type": "pid", "path": input.target_pid}))
        }
        (NamespaceMode::Container | NamespaceMode::Pod, _) => list.push(json!({"type": "pid"})),
    }
    if of_pod.ipc != NamespaceMode::Node {
        list.push(pinned("ipc", "ipc"));
    }
    if has_uts(input.sandbox) {
        list.push(pinned("uts", "uts"));
    }
    if of_pod.network != NamespaceMode::Node {
        list.push(pinned("network", "net"));
    }
    if of_pod.user.is_some() {
        list.push(pinned("user", "user"));
    }
    Value::Array(list)
}

#[cfg(test)]
mod tests;
