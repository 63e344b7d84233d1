//! Work inside another network namespace, on a thread of its own: a namespace belongs to a thread, and a thread that
//! has moved is never given back to anybody.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::LinkNameSpaceType;

/// Why the work was not done.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The namespace file cannot be opened.
    #[error("open network namespace {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread to do it on.
    #[error("start a thread for a network namespace")]
    Thread(#[source] io::Error),
    /// The kernel refused to enter.
    #[error("setns(CLONE_NEWNET)")]
    Enter(#[source] io::Error),
    /// The work panicked.
    #[error("work in a network namespace panicked")]
    Panicked,
}

/// Runs `work` in the network namespace of `namespace` and returns what it returned; the caller waits. Sockets made
/// there belong to that namespace for ever and may be handed out.
///
/// # Errors
/// When the thread cannot be made or may not enter; `work` has not run then.
pub fn run_in<T: Send>(
    namespace: impl AsFd + Sync,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    std::thread::scope(|scope| {
        let body = || {
            rustix::thread::move_into_link_name_space(
                namespace.as_fd(),
                Some(LinkNameSpaceType::Network),
            )
            .map_err(|source| NetnsError::Enter(source.into()))?;
            Ok(work())
        };
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, body)
            .map_err(NetnsError::Thread)?;
        thread.join().map_err(|_| NetnsError::Panicked)?
    })
}

/// As [`run_in`], for a namespace pinned at `path`.
///
/// # Errors
/// As there, and when the file cannot be opened.
pub fn run_in_path<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let file = File::open(path).map_err(|source| NetnsError::Open { path: path.into(), source })?;
    run_in(file, work)
}
