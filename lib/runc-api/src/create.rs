//! One container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Mappings;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// 64 hex digits.
    pub id: String,
    /// Folder with the OCI `config.json` and, next to it, `env`: the environment as `NAME=value`, each with a zero byte
    /// behind it. The program gets that one: JSON cannot carry any byte.
    pub bundle: PathBuf,
    /// Folder in which the helper keeps filters of system calls that it has made; made when absent. Root's alone.
    pub filters: PathBuf,
    /// Existing file that the helper keeps locked (`F_SETLK`) while it works. When it is gone, the agent has given up
    /// on this request and the helper must leave everything as it is.
    pub lock: PathBuf,
    /// File that the helper writes, by rename, before it replies: the JSON of [`Created`]. An agent that died in
    /// between finds its container there.
    pub created: PathBuf,
    /// The root file system.
    pub overlay: Overlay,
    /// Folder on which the helper may mount a tmpfs that only it and the container see; it exists where there is a user namespace or
    /// a mount that [needs](Mount::needs_stage) it. The spec names number `N` of `mounts` as the entry `N` in it.
    pub stage: PathBuf,
    /// Mounts that need more than the spec can say.
    pub mounts: Vec<Mount>,
    /// Numbers of `mounts` that are put in place only when the container is complete, and where: over folders that are
    /// filled first.
    pub late: Vec<(usize, String)>,
    /// Full path of the cgroup, made and limited by the agent, which has also said which devices its processes may use.
    pub cgroup: PathBuf,
    /// The user namespace that it joins.
    pub user: Option<UserNamespace>,
    /// What its standard descriptors are.
    pub stdio: Stdio,
    /// One more descriptor comes behind those: a mount namespace with nothing in it. A copy of that becomes the container's, which
    /// takes as long however many mounts the node has. Without it, a copy of the node's.
    pub empty: bool,
}

/// A pinned user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// The file that pins it.
    pub path: PathBuf,
    /// Its ids.
    pub mappings: Mappings,
}

/// Standard descriptors of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdio {
    /// Two descriptors come with the request: standard output and standard error. Standard input is empty.
    Output,
    /// Three descriptors come with the request: standard input, output, error.
    All,
    /// A terminal, made in the container; its master goes back with the reply.
    Terminal,
}

/// An overlay mount, made in a mount namespace of the container's own so that it goes away with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only trees below, used in place, the topmost first.
    pub lower: Vec<PathBuf>,
    /// Takes the writes.
    pub upper: PathBuf,
    /// For the kernel's own use, on the file system of `upper`.
    pub work: PathBuf,
    /// Where it is mounted; equals `root.path` of the spec. Exists where the stage does: else it is mounted on the empty root.
    pub merged: PathBuf,
}

/// A mount that the helper prepares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Without writes.
    pub read_only: bool,
    /// Without writes in every mount below, too.
    pub recursive_read_only: bool,
    /// How mounts made later travel.
    pub propagation: Propagation,
    /// Ids of its files are mapped as in the user namespace that the helper makes for it.
    pub mappings: Option<Mappings>,
}

impl Mount {
    /// Whether it is a part of an image, which has to be mounted somewhere before a part of it can be used.
    #[must_use]
    pub fn needs_stage(&self) -> bool {
        matches!(&self.source, MountSource::Image { sub_path, .. } if !sub_path.as_os_str().is_empty())
    }
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the node; made as a folder when absent. Symbolic links are followed.
    Host(PathBuf),
    /// A path below a folder of the agent's, found without leaving it.
    Inside {
        /// The folder.
        root: PathBuf,
        /// Relative path, may be empty; made as a folder when absent and `make` is set.
        sub_path: PathBuf,
        /// Make it when it is absent.
        make: bool,
    },
    /// The merged files of an image, without writes.
    Image {
        /// Its layers, the topmost first.
        layers: Vec<PathBuf>,
        /// Relative path in it, may be empty.
        sub_path: PathBuf,
    },
}

/// Mount propagation (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Neither way.
    Private,
    /// The node's later mounts appear in the container.
    Slave,
    /// Both ways.
    Shared,
}

/// A container that waits to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Its first process, in the node's pid namespace.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat of that process.
    pub start_time: u64,
}
