//! Starts the agent: born in its cgroup, with a clean signal mask, four descriptors and three variables.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use ingot_linux::cgroup::{Cgroup, CgroupError};
use ingot_linux::seqpacket::{self, SeqpacketError};
use ingot_linux::spawn::{self, Program, SpawnError};

/// Why the agent was not started.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No socket for it.
    #[error("make the agent's socket")]
    Socket(#[from] SeqpacketError),
    /// A file it is given could not be opened.
    #[error("open {path} for the agent")]
    Open {
        /// The file.
        path: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its cgroup could not be made.
    #[error("make the agent's cgroup")]
    Cgroup(#[from] CgroupError),
    /// No process.
    #[error("start the agent")]
    Spawn(#[from] SpawnError),
}

/// The agent's program.
pub const PROGRAM: &str = "/usr/bin/ingotd";

/// The agent's cgroup.
pub const CGROUP: &str = "/system/ingotd";

/// Pods go first when the node has no memory left. Not -1000: an agent that leaks must end at its own limit.
const OOM_SCORE_ADJ: &CStr = c"-900";

/// All that the agent's environment says. It has one busy thread and a few that wait for disks, and what one of them makes another gives
/// back. Unset, the C library gives each thread a heap of its own, and keeps for each up to seven freed blocks of every size to 1 KiB: two
/// MiB after some thousand containers. Freed memory at the heap's end goes back to the kernel from 128 KiB on; unset, that bound grows
/// with the largest block ever freed.
const ENVIRONMENT: &[&CStr] = &[
    c"PATH=/usr/sbin:/usr/bin",
    c"HOME=/",
    c"GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.tcache_max=128:glibc.malloc.trim_threshold=131072",
];

/// Starts it; gives its pid and our end of the socket.
///
/// # Errors
/// When anything it needs is missing. Nothing is left behind.
pub fn start() -> Result<(i32, OwnedFd), AgentError> {
    let (ours, theirs) = seqpacket::pair()?;
    let null = open("/dev/null", false)?;
    // What the agent writes outside its own log, such as the words of a panic, is found in the kernel log.
    let log = open("/dev/kmsg", true)?;
    let group = Cgroup::at(CGROUP);
    // Somebody may have removed it; without it the agent would be charged to us.
    group.create()?;
    let group = File::open(group.path())
        .map_err(|source| AgentError::Open { path: "/sys/fs/cgroup/system/ingotd", source })?;
    let pid = spawn::start(&Program {
        path: c"/usr/bin/ingotd",
        arguments: &[c"/usr/bin/ingotd"],
        environment: ENVIRONMENT,
        descriptors: [null.as_fd(), log.as_fd(), log.as_fd(), theirs.as_fd()],
        cgroup: Some(group.as_fd()),
        oom_score_adj: OOM_SCORE_ADJ,
    })?;
    Ok((pid, ours))
}

fn open(path: &'static str, write: bool) -> Result<File, AgentError> {
    File::options()
        .read(!write)
        .write(write)
        .open(path)
        .map_err(|source| AgentError::Open { path, source })
}
