//! What the agent and its one-shot helper `ingot-runc` say to each other: one request, one reply, then the helper is gone.
//!
//! Types only, no I/O. Both sides come from the same image, so there is no version: an agent never meets a helper of
//! another release.
//!
//! The helper finds a connected `SOCK_SEQPACKET` Unix socket as its descriptor 0. The agent sends one packet, the JSON of a
//! [`Request`] of at most [`MESSAGE_LENGTH_MAX`] bytes, with the descriptors (`SCM_RIGHTS`) that the request names, in that
//! order. The helper answers with one packet, the JSON of a [`Reply`] of at most [`REPLY_LENGTH_MAX`] bytes, with the descriptors that the reply names.
#![forbid(unsafe_code)]

mod create;
mod exec;
mod sandbox;

pub use create::{Create, Created, Mount, MountSource, Overlay, Propagation, Stdio, UserNamespace};
pub use exec::Exec;
pub use sandbox::{IdMapping, Mappings, Sandbox, Tmpfs};

use serde::{Deserialize, Serialize};

/// Longest request in bytes. Large things (the OCI spec) travel as files.
pub const MESSAGE_LENGTH_MAX: usize = 128 * 1024;

/// Longest reply in bytes: at most a reason for people.
pub const REPLY_LENGTH_MAX: usize = 8 * 1024;

/// A pipe in the bundle. The container's first process has its end open until it executes the program, and says there why it
/// could not.
pub const EXECUTED_FIFO: &str = "executed";

/// A pipe in the bundle. Whoever writes a byte into it starts the program; writing again does nothing, and once the program
/// was executed, or the process has ended, nobody has it open for reading.
pub const START_FIFO: &str = "start";

/// A file in the bundle: the text of the container's profile of system calls, JSON of the OCI form. The spec has its digest
/// (SHA-256 in lower-case hex) in its place, so that nobody has to read it whose filter is made already.
pub const SECCOMP_FILE: &str = "seccomp.json";

/// What the helper is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Make the namespaces that the containers of a pod share and pin them as files.
    Sandbox(Sandbox),
    /// Make a mount namespace with nothing in it but an empty root that cannot be written to, as [`Create::empty`] wants it.
    Empty,
    /// Build a container up to the point where its program only has to be executed.
    Create(Box<Create>),
    /// Start one more program in a container that runs.
    Exec(Exec),
}

/// What the helper answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The namespaces are pinned.
    Sandbox,
    /// One descriptor comes along: the mount namespace.
    Empty,
    /// The container waits to be started by [`START_FIFO`]. With [`Stdio::Terminal`] one descriptor comes along: the master
    /// of the terminal.
    Created(Created),
    /// The program runs in the container. With [`Stdio::Terminal`] one descriptor comes along: the master of the terminal.
    Started(Created),
    /// Everything was there but the program: no such file, or it may not be executed.
    NotExecuted {
        /// 127 when there is none, 126 when it cannot be executed, as a shell says it.
        exit_code: i32,
        /// For people.
        message: String,
    },
    /// It could not be done; what had been made in the kernel is gone again.
    Failed {
        /// The whole chain of causes in one line.
        message: String,
    },
}
