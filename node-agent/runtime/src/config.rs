//! What a sandbox and a container are to be, in the runtime's own words: the input of [`crate::sandbox`] and
//! [`crate::container`], whoever asks. Modelled on the CRI (`k8s.io/cri-api`, `runtime/v1`), because every caller can say what
//! it wants in those terms: the CRI server by converting protobuf, the node's own pods from their `v1/Pod`.
//!
//! Plain data that is written to disk in records. No I/O, no defaults of Kubernetes: those belong to the caller.

mod resources;

pub use resources::Resources;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A sandbox: what the containers of one pod share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Name of the pod.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Unique id of the pod; several attempts (sandboxes) may have the same.
    pub uid: String,
    /// Number of sandboxes made for the pod before this one.
    pub attempt: u32,
    /// Host name inside; empty with the node's network.
    pub hostname: String,
    /// Folder for the log files of containers; absolute. `None`: no logs are kept.
    pub log_directory: Option<PathBuf>,
    /// What `/etc/resolv.conf` says; `None`: the node's.
    pub dns: Option<Dns>,
    /// More lines for `/etc/hosts`: address and names.
    pub host_aliases: Vec<(String, Vec<String>)>,
    /// Ports of the node that lead to the pod.
    pub ports: Vec<PortMapping>,
    /// For the caller; never read by the runtime.
    pub labels: BTreeMap<String, String>,
    /// For the caller; never read by the runtime, except for annotations that CDI or CNI define.
    pub annotations: BTreeMap<String, String>,
    /// Runtime handler asked for; empty is the default.
    pub runtime_handler: String,
    /// Path of the cgroup above the sandbox's, from the root of the hierarchy, with the leading slash; empty: `/pods`.
    pub cgroup_parent: String,
    /// Whether that cgroup belongs to this pod alone and the caller has set its limits (kubelet: yes). Otherwise the runtime
    /// makes one of its own below it.
    pub cgroup_parent_is_pod: bool,
    /// Which namespaces are shared with whom.
    pub namespaces: NamespaceOptions,
    /// Kernel parameters of the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Rights of the sandbox; containers have their own.
    pub security: Security,
    /// Limits of the whole pod, set on its cgroup when the runtime made it.
    pub resources: Resources,
    /// Size of the pod's `/dev/shm` in bytes; `None`: 64 MiB, as Docker and containerd.
    pub shm_size_bytes: Option<u64>,
    /// Volumes in memory that live as long as the sandbox: name (safe as a file name) and size in bytes (`None`: half of the
    /// node's memory). A container mounts one with [`MountSource::Memory`].
    pub memory_volumes: BTreeMap<String, Option<u64>>,
}

/// Contents of `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of resolvers.
    pub servers: Vec<String>,
    /// Domains appended to short names.
    pub searches: Vec<String>,
    /// Options such as `ndots:5`.
    pub options: Vec<String>,
}

/// A port of the node that leads to a port of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the node; 0 means none.
    pub host_port: u16,
    /// Address of the node; empty means all.
    pub host_ip: String,
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Which namespaces are shared with whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    /// Network: of the pod or of the node.
    pub network: NamespaceMode,
    /// Process ids: of the pod, of the container alone, of the node, or of another container.
    pub pid: NamespaceMode,
    /// IPC: of the pod or of the node.
    pub ipc: NamespaceMode,
    /// User ids; `None`: the node's.
    pub user: Option<UserNamespace>,
}

/// Who shares a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// All containers of the pod.
    #[default]
    Pod,
    /// One container only.
    Container,
    /// The node.
    Node,
    /// The namespace of the container with this id.
    Target(String),
}

/// A user namespace for a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// User ids.
    pub uids: IdMapping,
    /// Group ids.
    pub gids: IdMapping,
}

/// One range of ids, as in `/proc/PID/uid_map` (user_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id inside.
    pub container_id: u32,
    /// First id on the node.
    pub host_id: u32,
    /// How many.
    pub length: u32,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Name, unique in the pod together with `attempt`.
    pub name: String,
    /// Number of containers made under this name before.
    pub attempt: u32,
    /// Image as the caller named it.
    pub image: String,
    /// Image as the user wrote it, where the caller has made an id of that; for the caller.
    pub user_image: String,
    /// Program; empty: the image's entrypoint, then its command.
    pub command: Vec<String>,
    /// Arguments; empty: the image's, unless `command` is given.
    pub args: Vec<String>,
    /// Working folder; empty: the image's.
    pub working_dir: String,
    /// Environment, after the image's. Values may be any bytes without NUL.
    pub env: Vec<(String, Vec<u8>)>,
    /// Mounts, in this order.
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// CDI devices by their full names (`vendor/class=name`).
    pub cdi_devices: Vec<String>,
    /// For the caller.
    pub labels: BTreeMap<String, String>,
    /// For the caller.
    pub annotations: BTreeMap<String, String>,
    /// Log file, relative to the sandbox's log folder; empty: no log is kept.
    pub log_path: String,
    /// Keep standard input open for attach.
    pub stdin: bool,
    /// Close standard input when the first attach ends.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Signal that asks it to end; `None`: the image's, else SIGTERM.
    pub stop_signal: Option<i32>,
    /// Limits.
    pub resources: Resources,
    /// Rights.
    pub security: Security,
    /// Namespaces; `pid` may differ from the sandbox's, the others are the sandbox's.
    pub namespaces: NamespaceOptions,
}

/// Something of the node in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub container_path: String,
    /// What is mounted.
    pub source: MountSource,
    /// Without writes.
    pub read_only: bool,
    /// Without writes in every mount below, too.
    pub recursive_read_only: bool,
    /// How mounts made later travel.
    pub propagation: Propagation,
    /// Ids of the files are mapped like this (idmapped mount); `None`: not at all.
    pub id_mapping: Option<UserNamespace>,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the node; made as a folder when absent. Symbolic links of the node are followed.
    Host(PathBuf),
    /// A path of the runtime's own below `root`, resolved without leaving it (`sub_path` may come from a user).
    Inside {
        /// Folder the runtime owns.
        root: PathBuf,
        /// Relative path below it; may be empty.
        sub_path: String,
    },
    /// The files of an image, read-only.
    Image {
        /// The image as the caller named it.
        image: String,
        /// Relative path in it; may be empty.
        sub_path: String,
    },
    /// A volume of [`SandboxConfig::memory_volumes`], shared by the containers of the pod.
    Memory {
        /// Its name.
        name: String,
        /// Relative path in it; may be empty.
        sub_path: String,
    },
    /// A tmpfs of this size in bytes that the container has for itself.
    Tmpfs(Option<u64>),
}

impl Default for MountSource {
    fn default() -> Self {
        Self::Tmpfs(None)
    }
}

/// Mount propagation (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// The node's later mounts appear in the container (`rslave`).
    HostToContainer,
    /// Both ways (`rshared`); privileged containers only.
    Bidirectional,
}

/// A device node in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the node; a folder means all devices in it.
    pub host_path: PathBuf,
    /// Path in the container.
    pub container_path: PathBuf,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

/// Rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// All capabilities, all devices, no seccomp filter, nothing masked.
    pub privileged: bool,
    /// User id; `None`: by name, else the image's.
    pub run_as_user: Option<u32>,
    /// Group id; needs a user.
    pub run_as_group: Option<u32>,
    /// User name, looked up in the image's `/etc/passwd`; empty: not given.
    pub run_as_username: String,
    /// More groups.
    pub supplemental_groups: Vec<u32>,
    /// Only those groups, not the ones the image's `/etc/group` gives the user.
    pub supplemental_groups_strict: bool,
    /// Root file system without writes.
    pub read_only_root: bool,
    /// Capabilities added to the default set, with or without `CAP_`; "ALL" adds all.
    pub capabilities_add: Vec<String>,
    /// Capabilities removed, with or without `CAP_`; "ALL" removes all.
    pub capabilities_drop: Vec<String>,
    /// Capabilities that stay over execve for other users than root.
    pub capabilities_ambient: Vec<String>,
    /// System calls.
    pub seccomp: SecurityProfile,
    /// AppArmor.
    pub apparmor: SecurityProfile,
    /// Sets `no_new_privs`.
    pub no_new_privileges: bool,
    /// Paths that show nothing; `None`: the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths without writes; `None`: the default list.
    pub read_only_paths: Option<Vec<String>>,
}

/// A seccomp or AppArmor profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    /// The runtime's own.
    RuntimeDefault,
    /// None.
    #[default]
    Unconfined,
    /// A file of the node (seccomp: absolute path) or a loaded profile (AppArmor: its name).
    Localhost(String),
}
