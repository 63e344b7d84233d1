//! What a pod is to the engine: a checked `v1/Pod` with its identity. Plain values without I/O.
//!
//! They are written to disk in the pod's record, so a change of meaning needs a new field.

use std::collections::BTreeMap;

use ingot_machine_config::v1::pod as config;
pub use ingot_machine_config::v1::pod::RestartPolicy;
use ingot_machine_config::v1::pod::{Container, PodSpec};
use serde::{Deserialize, Serialize};

/// Most of a priority that users may give; above are the system's.
pub const SYSTEM_PRIORITY_MIN: i32 = 2_000_000_000;

/// A pod that should run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Namespace, "default" when the config names none.
    pub namespace: String,
    /// Name, unique in its namespace.
    pub name: String,
    /// Stable identity: lower-case letters, digits and dashes; it names folders and cgroups.
    pub uid: String,
    /// Free text of the owner; not interpreted, but a container may ask for it.
    pub labels: BTreeMap<String, String>,
    /// The same.
    pub annotations: BTreeMap<String, String>,
    /// Who asked for it.
    pub source: Source,
    /// Most processes and threads of the whole pod at a time: `pids.max`.
    pub pids_limit: Option<u64>,
    /// What it runs, checked by `ingot-machine-config`.
    pub spec: PodSpec,
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

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// Is started among the init containers and stays.
    Sidecar,
    /// One of the pod's containers.
    Main,
}

/// Kubernetes' class of a pod, from its requests and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has limits for CPU and memory, and requests as much.
    Guaranteed,
    /// Some container has a limit or request.
    Burstable,
    /// None has.
    BestEffort,
}

impl QosClass {
    /// Kubernetes' spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

impl Pod {
    /// The pod of a checked config document. `pids_limit_default` is the machine's `pods.pidsLimit`.
    #[must_use]
    pub fn from_config(pod: &config::Pod, pids_limit_default: u32) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.uid(),
            labels: pod.metadata.labels.clone(),
            annotations: pod.metadata.annotations.clone(),
            source: Source::Config,
            pids_limit: Some(pod.pids_limit(pids_limit_default).into()),
            spec: pod.spec.clone(),
        }
    }

    /// Init containers, then containers.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.spec.init_containers.iter().chain(&self.spec.containers)
    }

    /// A container by its place in [`Self::all_containers`].
    #[must_use]
    pub fn container(&self, index: usize) -> Option<&Container> {
        self.all_containers().nth(index)
    }

    /// What the container at that place is.
    #[must_use]
    pub fn role(&self, index: usize) -> Role {
        match self.spec.init_containers.get(index) {
            Some(container) if container.is_sidecar() => Role::Sidecar,
            Some(_) => Role::Init,
            None => Role::Main,
        }
    }

    /// What to do when a container ends.
    #[must_use]
    pub fn restart_policy(&self) -> RestartPolicy {
        self.spec.restart_policy
    }

    /// Its importance: pods with more are started earlier and killed later.
    #[must_use]
    pub fn priority(&self) -> i32 {
        let class = self.spec.priority_class_name.map(config::PriorityClass::priority);
        self.spec.priority.or(class).unwrap_or(0)
    }

    /// The kubelet's class of it: what is not requested is requested at its limit.
    #[must_use]
    pub fn qos_class(&self) -> QosClass {
        let given = |list: &config::ResourceList| list.cpu.is_some() || list.memory.is_some();
        let mut containers = self.all_containers().map(|c| &c.resources).peekable();
        let guaranteed = |r: &config::Resources| {
            let same = |limit: &Option<_>, request: &Option<_>| {
                limit.is_some() && (request.is_none() || limit == request)
            };
            same(&r.limits.cpu, &r.requests.cpu) && same(&r.limits.memory, &r.requests.memory)
        };
        if self.all_containers().all(|c| guaranteed(&c.resources)) && containers.peek().is_some() {
            return QosClass::Guaranteed;
        }
        if containers.any(|r| given(&r.limits) || given(&r.requests)) {
            return QosClass::Burstable;
        }
        QosClass::BestEffort
    }

    /// Whether every name that becomes part of a path or a cgroup name is safe as one: letters, digits, `-`, `.` inside.
    #[must_use]
    pub fn has_safe_names(&self) -> bool {
        let volumes = self.spec.volumes.iter().map(|v| v.name.as_str());
        let containers = self.all_containers().map(|c| c.name.as_str());
        volumes.chain(containers).chain([self.uid.as_str()]).all(is_safe_name)
    }
}

pub(crate) fn is_safe_name(name: &str) -> bool {
    let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| inside(&b))
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}
