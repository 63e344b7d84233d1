//! What the agent and its one-shot helper `ingot-runc` say to each other: one request, one reply, then the helper is gone.
//!
//! Types only, no I/O. Both sides come from the same image, so there is no version: an agent never meets a helper of
//! another release.
//!
//! The helper finds a connected `SOCK_SEQPACKET` Unix socket as its descriptor 0. The agent sends one packet, the JSON of a
//! [`Request`] of at most [`MESSAGE_LENGTH_MAX`] bytes, and with [`Request::Create`] exactly two descriptors
//! (`SCM_RIGHTS`): what becomes descriptor 1 and 2 of the container. The helper answers with one packet, the JSON of a
//! [`Reply`].
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest request or reply in bytes. Large things (the OCI spec) travel as files.
pub const MESSAGE_LENGTH_MAX: usize = 32 * 1024;

/// What the helper is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Make the namespaces that the containers of a pod share and pin them as files.
    Sandbox(Sandbox),
    /// Build a container up to the point where its program only has to be executed.
    Create(Create),
}

/// The namespaces of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Existing folder; afterwards it holds the files `ipc`, `uts` and, with `network`, `net`.
    pub folder: PathBuf,
    /// Host name inside.
    pub hostname: String,
    /// Make a network namespace, with its loopback up.
    pub network: bool,
    /// Mounts to make in the node's own mount namespace, for volumes in memory.
    pub tmpfs: Vec<Tmpfs>,
}

/// A tmpfs to mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Existing folder.
    pub path: PathBuf,
    /// Most bytes in it; the kernel's default when `None`.
    pub size_bytes: Option<u64>,
    /// Only owners may remove files, as in `/tmp`.
    pub sticky: bool,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// 64 hex digits.
    pub id: String,
    /// Folder with the OCI `config.json`.
    pub bundle: PathBuf,
    /// Folder for libcontainer's state; short, because a socket of at most 108 bytes lies in it.
    pub state_root: PathBuf,
    /// Existing file that the helper keeps locked (`F_SETLK`) while it works. When it is gone, the agent has given up
    /// on this request and the helper must leave everything as it is.
    pub lock: PathBuf,
    /// File that the helper writes, by rename, before it replies: the JSON of [`Created`]. An agent that died in
    /// between finds its container there.
    pub created: PathBuf,
    /// The root file system.
    pub overlay: Overlay,
    /// Full path of the cgroup, made and limited by the agent.
    pub cgroup: PathBuf,
    /// All devices of the node instead of the harmless ones.
    pub all_devices: bool,
}

/// An overlay mount, made in a mount namespace of the container's own so that it goes away with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only tree below, used in place.
    pub lower: PathBuf,
    /// Takes the writes.
    pub upper: PathBuf,
    /// For the kernel's own use, on the file system of `upper`.
    pub work: PathBuf,
    /// Where it is mounted; equals `root.path` of the spec.
    pub merged: PathBuf,
}

/// A container that waits to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Its first process, in the node's pid namespace.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat of that process.
    pub start_time: u64,
}

/// What the helper answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The namespaces are pinned.
    Sandbox,
    /// The container waits to be started: connect to `<state_root>/<id>/notify.sock`.
    Created(Created),
    /// It could not be done; what had been made in the kernel is gone again.
    Failed {
        /// The whole chain of causes in one line.
        message: String,
    },
}
