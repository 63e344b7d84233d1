//! Doing something inside another network namespace, without moving the caller there.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The file that pins the namespace could not be opened.
    #[error("open network namespace {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel did not let us in.
    #[error("enter network namespace {path}")]
    Enter {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No thread could be started, or it panicked.
    #[error("run a thread in network namespace {path}")]
    Thread {
        /// The file.
        path: PathBuf,
    },
}

/// Runs `work` on a thread of its own inside the network namespace that `path` pins, and waits for it. Sockets opened
/// there stay in that namespace, wherever they are used later.
///
/// # Errors
/// When the namespace cannot be entered; then `work` does not run.
pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| NetnsError::Open { path: path.into(), source: e.into() })?;
    let thread_failed = || NetnsError::Thread { path: path.into() };
    std::thread::scope(|scope| {
        let body = || {
            use std::os::fd::AsFd as _;
            // Only this thread moves; it ends here, so nobody ever runs in the wrong namespace by accident.
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|e| NetnsError::Enter { path: path.into(), source: e.into() })?;
            Ok(work())
        };
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, body);
        thread.map_err(|_| thread_failed())?.join().map_err(|_| thread_failed())?
    })
}
