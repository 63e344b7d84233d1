//! What is on disk about a pod: one small file that says everything, replaced before each step that it announces.
//!
//! `<var>/pods/<uid>/record.json`. It lives on VAR, so restart counts and exits survive a reboot; what is true only for this
//! boot (processes, namespaces, addresses in use) carries the boot id and is void under another. After a kill of the agent
//! the newest version is in the page cache; only an exit is synchronised to the disk, because PID 1 forgets it afterwards.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable::{Survives, WriteError, replace};
use crate::pod::Pod;
use crate::status::ExitRecord;

/// The record of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    /// What this pod was started as; a wish that differs replaces the pod.
    pub(crate) pod: Pod,
    /// When it was first wished for.
    pub(crate) created_at: Timestamp,
    /// Its namespaces and addresses, `None` when there are none.
    pub(crate) sandbox: Option<Sandbox>,
    /// One per container, init containers first, in the order of the pod.
    pub(crate) containers: Vec<ContainerRecord>,
    /// Its containers are being stopped for good, then everything of it is removed.
    pub(crate) removing: bool,
    /// Why it has failed as a whole; nothing of it is started again.
    pub(crate) verdict: Option<Verdict>,
}

/// Why a pod has failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// "Evicted" or "DeadlineExceeded".
    pub(crate) reason: String,
    /// The same in a sentence.
    pub(crate) message: String,
}

/// Namespaces and addresses of a pod, in one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    /// Boot in which it was made.
    pub(crate) boot_id: String,
    /// It is complete; before that, it may exist in part.
    pub(crate) ready: bool,
    /// Addresses on the pod bridge.
    pub(crate) ips: Vec<IpAddr>,
    /// First user id on the node of the pod's own ids, when it has some.
    #[serde(default)]
    pub(crate) first_user_id: Option<u32>,
}

/// What is known of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    /// Runs begun so far; also the number of the next one.
    pub(crate) attempts: u32,
    /// Ends and failed starts in a row, for the back-off.
    pub(crate) failures: u32,
    /// The next start is not before this, in milliseconds since boot, in the boot `due_boot_id`.
    pub(crate) due_ms: u64,
    /// Boot that `due_ms` speaks of; in another one nothing is delayed.
    pub(crate) due_boot_id: String,
    /// The present run.
    pub(crate) run: Option<Run>,
    /// Why it could not be started last time: reason and message.
    pub(crate) trouble: Option<(String, String)>,
    /// Boot in which it has done what others wait for: an init container ended well, a sidecar started.
    #[serde(default)]
    pub(crate) passed_boot_id: String,
    /// Newest ended runs, oldest first.
    pub(crate) history: Vec<ExitRecord>,
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// 64 hex digits.
    pub(crate) id: String,
    /// 0 for the first.
    pub(crate) attempt: u32,
    /// Boot it belongs to.
    pub(crate) boot_id: String,
    /// How far it has come.
    pub(crate) phase: RunPhase,
    /// When it was started, milliseconds since boot.
    pub(crate) started_ms: u64,
    /// When it was started.
    pub(crate) started_at: Option<Timestamp>,
    /// Its hook is done and its startup probe has passed.
    pub(crate) started: bool,
    /// Its readiness probe passes.
    pub(crate) ready: bool,
    /// The image it was made from.
    #[serde(default)]
    pub(crate) image_id: String,
    /// Images it has mounted.
    #[serde(default)]
    pub(crate) mounted_image_ids: Vec<String>,
    /// What asks it to end.
    #[serde(default = "sigterm")]
    pub(crate) stop_signal: i32,
}

/// What asks a container to end when nobody says otherwise.
pub(crate) const SIGTERM: i32 = crate::signal::TERM;

fn sigterm() -> i32 {
    SIGTERM
}

/// How far a run has come. Each is written before the step it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RunPhase {
    /// Anything of it may exist; none of it counts.
    Creating,
    /// Its first process exists, PID 1 watches it, and it is told to execute the program or runs it already.
    Started {
        /// First process.
        pid: i32,
        /// Field 22 of its /proc/PID/stat.
        start_time: u64,
    },
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Read the file.
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Understand it.
    #[error("understand {path}")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// Write it.
    #[error("save the record of pod {uid}")]
    Write {
        uid: String,
        #[source]
        source: WriteError,
    },
}

impl PodRecord {
    /// A pod that was never started.
    pub(crate) fn new(pod: Pod) -> Self {
        let containers = vec![ContainerRecord::default(); pod.all_containers().count()];
        let created_at = Timestamp::now();
        Self { pod, created_at, sandbox: None, containers, removing: false, verdict: None }
    }

    /// A pod of which nothing is known but that something of it is left: it is to be removed.
    pub(crate) fn leftover(uid: String) -> Self {
        let name = uid.clone();
        Self { removing: true, ..Self::new(Pod { uid, name, ..Pod::default() }) }
    }

    /// Folder of a pod below `var`.
    pub(crate) fn folder(var: &Path, uid: &str) -> PathBuf {
        var.join("pods").join(uid)
    }

    /// Reads the record in `folder`; `None` when there is none.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>, RecordError> {
        let path = folder.join("record.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RecordError::Read { path, source }),
        };
        let record: Self = serde_json::from_slice(&bytes)
            .map_err(|source| RecordError::Parse { path: path.clone(), source })?;
        Ok(Some(record))
    }

    /// Replaces the record in `folder`.
    pub(crate) fn save(&self, folder: &Path, survives: Survives) -> Result<(), RecordError> {
        let failed = |source| RecordError::Write { uid: self.pod.uid.clone(), source };
        let path = folder.join("record.json");
        let bytes = serde_json::to_vec(self)
            .map_err(|e| failed(WriteError::Write { path: path.clone(), source: e.into() }))?;
        replace(&path, &bytes, survives).map_err(failed)
    }
}
