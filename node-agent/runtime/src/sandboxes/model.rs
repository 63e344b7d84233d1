//! What is known of a sandbox and its containers: at the same time what readers see and what is on disk. A value is never
//! changed once somebody else has it; a change makes a new one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{ContainerConfig, Resources, SandboxConfig};

/// A sandbox and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// 64 hex digits.
    pub id: String,
    /// As it was asked for.
    pub config: Arc<SandboxConfig>,
    /// Boot in which it was made; in another one nothing of it exists in the kernel.
    pub boot_id: String,
    /// How far it has come.
    pub phase: SandboxPhase,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Addresses in the pod network; empty with the node's.
    pub ips: Vec<IpAddr>,
    /// Limits and overhead of the whole pod as the caller last said.
    pub resources: Resources,
    /// Its containers, oldest first. On disk each has a file of its own.
    #[serde(skip)]
    pub containers: Vec<Arc<Container>>,
}

/// How far a sandbox has come. Each is on disk before the step it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxPhase {
    /// It may exist in part; none of it counts.
    Creating,
    /// Containers may be made in it.
    Ready,
    /// It is being taken apart, or is.
    NotReady,
    /// Nothing of it shall stay, the record goes last.
    Removing,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Id of its sandbox.
    pub sandbox_id: String,
    /// As it was asked for.
    pub config: Arc<ContainerConfig>,
    /// The image it was made from.
    pub image: ImageNames,
    /// Images it mounts, by the names its config has for them.
    pub mounted: BTreeMap<String, ImageNames>,
    /// Boot in which it was made.
    pub boot_id: String,
    /// How far it has come.
    pub phase: ContainerPhase,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its program was started.
    pub started_at: Option<Timestamp>,
    /// How it ended.
    pub exit: Option<ContainerExit>,
    /// Who its program runs as.
    pub user: Option<User>,
    /// Signal that asks it to end.
    pub stop_signal: i32,
    /// Where its output goes.
    pub log_path: Option<PathBuf>,
    /// Its limits as they are now.
    pub resources: Resources,
    /// It shall go away for good.
    pub removing: bool,
}

/// The image of a container, so that its status can be told without the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageNames {
    /// Id of the image.
    pub id: String,
    /// A tag of it, else the name it was asked for by.
    pub name: String,
    /// A digest of it, else its id.
    pub reference: String,
}

/// How far a container has come. Each is on disk before the step it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPhase {
    /// Anything of it may exist; none of it counts.
    Creating,
    /// Its first process waits to be started.
    Created(Process),
    /// Its program was told to run.
    Running(Process),
    /// Its processes are gone.
    Exited,
}

/// A process that cannot be mistaken for another one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Number on the node.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat.
    pub start_time: u64,
}

impl From<Process> for (i32, u64) {
    fn from(process: Process) -> Self {
        (process.pid, process.start_time)
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerExit {
    /// 0 to 255; 128 and the number of a signal that killed it; 255 when nobody knows.
    pub code: i32,
    /// "Completed", "Error", "OOMKilled" or "Unknown".
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When.
    pub finished_at: Timestamp,
}

/// Who a program runs as, in ids inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
}

impl Sandbox {
    /// Whether it is ready for containers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == SandboxPhase::Ready
    }

    /// Whether callers know of it already.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.phase != SandboxPhase::Creating
    }
}

impl Container {
    /// Its first process, while it lives.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        match self.phase {
            ContainerPhase::Created(process) | ContainerPhase::Running(process) => Some(process),
            ContainerPhase::Creating | ContainerPhase::Exited => None,
        }
    }

    /// Whether its program was started and has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.phase, ContainerPhase::Running(_))
    }
}
