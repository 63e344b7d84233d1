//! What the containers of a pod share.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The namespaces of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Existing folder; afterwards it holds one file for each namespace made: `user`, `ipc`, `uts`, `net`, `pid`.
    pub folder: PathBuf,
    /// Existing file that the helper keeps locked (`F_SETLK`) while it works. When it is gone, the agent has given up on this
    /// request and the helper must leave everything as it is.
    pub lock: PathBuf,
    /// Make a UTS namespace with this host name.
    pub hostname: Option<String>,
    /// Make a network namespace, with its loopback up.
    pub network: bool,
    /// Make an IPC namespace.
    pub ipc: bool,
    /// Make a PID namespace, whose first process does nothing but reap and stays in this cgroup (full path, made by the
    /// agent).
    pub pid: Option<PathBuf>,
    /// Make a user namespace, which owns the others.
    pub user: Option<Mappings>,
    /// Kernel parameters of the namespaces made, by their names with dots. Checked by the agent: none reaches further.
    pub sysctls: Vec<(String, String)>,
    /// Mounts to make in the node's own mount namespace.
    pub tmpfs: Vec<Tmpfs>,
}

/// Ids of a user namespace: one range each (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mappings {
    /// User ids.
    pub uids: IdMapping,
    /// Group ids.
    pub gids: IdMapping,
}

/// One range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id inside.
    pub inside: u32,
    /// First id on the node.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A tmpfs to mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Existing folder.
    pub path: PathBuf,
    /// Most bytes in it; the kernel's default when `None`.
    pub size_bytes: Option<u64>,
    /// Rights of its root, as for chmod(2).
    pub mode: u32,
}
