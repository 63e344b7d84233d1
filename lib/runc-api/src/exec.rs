//! One more program in a container that runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Created, Stdio};

/// A program to start in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Folder with the container's OCI `config.json` and `env`, as in [`crate::Create`]. The program gets the same user,
    /// rights, limits and environment as the container's own.
    pub bundle: PathBuf,
    /// Folder with filters of system calls, as in [`crate::Create`].
    pub filters: PathBuf,
    /// The container's first process. If it is not that one any more, nothing is started.
    pub process: Created,
    /// Full path of the container's cgroup.
    pub cgroup: PathBuf,
    /// Program and arguments; a program without a slash is looked up in PATH.
    pub command: Vec<String>,
    /// `NAME=value`, each in place of what the container's environment has of that name.
    pub environment: Vec<String>,
    /// What its standard descriptors are.
    pub stdio: Stdio,
    /// Size of the terminal: columns and rows.
    pub size: Option<(u16, u16)>,
    /// File that the helper writes, by rename, before it replies: the JSON of [`Created`] for the new process. Its folder
    /// exists. An agent that begins finds there whom a former agent started.
    pub record: PathBuf,
}
