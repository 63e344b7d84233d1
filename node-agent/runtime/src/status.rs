//! What is true of pods: plain values that readers get as an immutable snapshot.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::pod::{Pod, QosClass, Role, Source};

/// Ended runs kept per container.
pub const HISTORY_MAX: usize = 16;

/// State of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Stable identity.
    pub uid: String,
    /// Kubernetes' phase.
    pub phase: Phase,
    /// Why it is not running, e.g. "ErrImagePull"; empty when it is.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// Its addresses, IPv4 first; empty with `host_network`.
    pub ips: Vec<std::net::IpAddr>,
    /// It shares the node's network.
    pub host_network: bool,
    /// When its first container started.
    pub started_at: Option<Timestamp>,
    /// Init containers, then containers, in the order of the spec.
    pub containers: Vec<ContainerStatus>,
    /// Who asked for it.
    pub source: Source,
    /// Generation of the wish this speaks of.
    pub generation: u64,
    /// What it was started as.
    pub pod: Arc<Pod>,
    /// When it was first wished for.
    pub created_at: Timestamp,
    /// Kubernetes' class of it.
    pub qos_class: QosClass,
    /// PodScheduled, Initialized, ContainersReady and Ready.
    pub conditions: Vec<Condition>,
}

/// A fact about a pod that is true or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name.
    pub name: &'static str,
    /// Whether it is true.
    pub is_true: bool,
    /// Why not, in one word.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// Since when, as far as this agent knows.
    pub since: Timestamp,
}

/// Kubernetes' `PodPhase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not every container has started yet.
    Pending,
    /// Every container was started and at least one runs or will run again.
    Running,
    /// All ended with 0 and will not run again.
    Succeeded,
    /// All ended, at least one with a failure, and will not run again.
    Failed,
}

impl Phase {
    /// Kubernetes' spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// State of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Name.
    pub name: String,
    /// What it is in its pod.
    pub role: Role,
    /// Its hook is done and its startup probe has passed.
    pub started: bool,
    /// It has started and its readiness probe passes; an init container: it ended well.
    pub ready: bool,
    /// Digest of its image's config; empty before the first create.
    pub image_id: String,
    /// 64 hex digits; empty before the first create.
    pub id: String,
    /// Image reference as written.
    pub image: String,
    /// What it is doing.
    pub state: ContainerState,
    /// E.g. "CrashLoopBackOff", "OOMKilled", "Completed", "Error", "ErrImagePull"; empty while running.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Its first process in the node's pid namespace; 0 when none.
    pub pid: i32,
    /// Start of the current or last run.
    pub started_at: Option<Timestamp>,
    /// End of the last ended run.
    pub finished_at: Option<Timestamp>,
    /// Exit code of the last ended run; 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// Signal that ended the last ended run, 0 if none.
    pub signal: i32,
    /// When the next try is due, while backing off.
    pub next_start_at: Option<Timestamp>,
    /// Path of its cgroup below /sys/fs/cgroup; empty when it has none.
    pub cgroup: String,
    /// The newest [`HISTORY_MAX`] ended runs, oldest first.
    pub history: Vec<ExitRecord>,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// It is about to be started.
    Waiting,
    /// Its process runs.
    Running,
    /// It ended and will not be started again.
    Terminated,
}

/// One ended run of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Container id of the run.
    pub id: String,
    /// 0 for the first run.
    pub attempt: u32,
    /// Exit code; 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// Signal, 0 if none.
    pub signal: i32,
    /// "Completed", "Error", "OOMKilled", "StartError", "NodeRebooted" or "Unknown".
    pub reason: String,
    /// A sentence, may be empty.
    pub message: String,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}
