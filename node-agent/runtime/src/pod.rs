//! What a pod is to the engine: the part of Kubernetes' `v1/Pod` that it carries out, checked and with its defaults.
//!
//! Plain values without I/O. They are written to disk in the pod's record, so a change of meaning needs a new field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A pod that should run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Namespace, "default" when the config names none.
    pub namespace: String,
    /// Name, unique in its namespace.
    pub name: String,
    /// Stable identity: lower-case letters, digits and dashes; it names folders and cgroups.
    pub uid: String,
    /// Free text of the owner; not interpreted.
    pub labels: BTreeMap<String, String>,
    /// Who asked for it.
    pub source: Source,
    /// Host name inside; the pod's name when empty.
    pub hostname: String,
    /// Share the node's network instead of having an address of its own.
    pub host_network: bool,
    /// What to do when a container ends.
    pub restart_policy: RestartPolicy,
    /// Seconds between SIGTERM and SIGKILL.
    pub termination_grace_seconds: u32,
    /// Most processes and threads of the whole pod at a time: `pids.max`.
    pub pids_limit: Option<u64>,
    /// Run one after the other, each to success, before `containers` start.
    pub init_containers: Vec<Container>,
    /// The containers.
    pub containers: Vec<Container>,
    /// Volumes that containers mount by name.
    pub volumes: Vec<Volume>,
}

/// Who asked for a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A `v1/Pod` document of the machine config.
    #[default]
    Config,
    /// A part of the Kubernetes control plane.
    ControlPlane,
    /// The kubelet, through the CRI.
    Cri,
}

/// What to do when a container ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Start it again, whatever its exit code.
    #[default]
    Always,
    /// Start it again unless it ended with 0.
    OnFailure,
    /// Leave it ended.
    Never,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Name, unique in the pod.
    pub name: String,
    /// Image reference, `repository[:tag]`; tag "latest" when it names none.
    pub image: String,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub args: Vec<String>,
    /// Set on top of the image's environment, in this order.
    pub env: Vec<(String, String)>,
    /// Replaces the image's working directory when not empty.
    pub working_dir: String,
    /// Quotas.
    pub resources: Resources,
    /// Where volumes appear.
    pub mounts: Vec<VolumeMount>,
    /// Rights.
    pub security: Security,
}

/// Quotas of one container. `None` is "not given", and then nothing is written to the kernel for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU limit in thousandths of a CPU: `cpu.max`.
    pub cpu_limit_millis: Option<u64>,
    /// CPU request in thousandths of a CPU: `cpu.weight`. The limit, when only that is given.
    pub cpu_request_millis: Option<u64>,
    /// Memory limit in bytes: `memory.max`.
    pub memory_limit_bytes: Option<u64>,
    /// Memory request in bytes: `memory.low`. The limit, when only that is given.
    pub memory_request_bytes: Option<u64>,
}

/// Where a volume appears in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Name of the volume.
    pub volume: String,
    /// Absolute path in the container.
    pub path: String,
    /// Mount it read-only.
    pub read_only: bool,
    /// Folder of the volume to mount instead of its root; relative, without `..`; may be empty.
    pub sub_path: String,
}

/// Rights of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// User id; the image's user when not given.
    pub run_as_user: Option<u32>,
    /// Group id; the image's group when not given.
    pub run_as_group: Option<u32>,
    /// Root file system without writes.
    pub read_only_root: bool,
    /// All capabilities, all devices, no seccomp filter, nothing masked.
    pub privileged: bool,
    /// Capabilities added to the default set, without `CAP_`.
    pub capabilities_add: Vec<String>,
    /// Capabilities removed from the default set, without `CAP_`; "ALL" removes all.
    pub capabilities_drop: Vec<String>,
    /// Whether a process may gain rights by `execve`; false sets `no_new_privs`.
    pub allow_privilege_escalation: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Name, unique in the pod.
    pub name: String,
    /// What is behind it.
    pub kind: VolumeKind,
}

/// What is behind a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeKind {
    /// An empty folder on VAR that lives as long as the pod.
    EmptyDir {
        /// Most bytes in it. Not enforced yet: VAR itself is the bound.
        size_limit_bytes: Option<u64>,
    },
    /// A tmpfs that lives as long as the pod; its pages count against the memory limit of who writes them.
    EmptyDirMemory {
        /// Size of the tmpfs in bytes; half of the node's memory when not given.
        size_limit_bytes: Option<u64>,
    },
    /// A path of the node.
    HostPath {
        /// Absolute path.
        path: String,
    },
}

impl Pod {
    /// Init containers, then containers, each with whether it is an init container.
    pub fn all_containers(&self) -> impl Iterator<Item = (&Container, bool)> {
        let init = self.init_containers.iter().map(|c| (c, true));
        init.chain(self.containers.iter().map(|c| (c, false)))
    }

    /// Whether every name that becomes part of a path or a cgroup name is safe as one: letters, digits, `-`, `.` inside.
    #[must_use]
    pub fn has_safe_names(&self) -> bool {
        let volumes = self.volumes.iter().map(|v| v.name.as_str());
        let containers = self.all_containers().map(|(c, _)| c.name.as_str());
        volumes.chain(containers).chain([self.uid.as_str()]).all(is_safe_name)
    }
}

pub(crate) fn is_safe_name(name: &str) -> bool {
    let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| inside(&b))
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}
