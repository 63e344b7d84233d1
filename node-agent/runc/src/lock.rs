//! The lock that says that this process still works on something.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, Mode, OFlags};

/// Takes the lock, and makes sure that the agent has not given up on us in the meantime: then it has removed the file. Held
/// until we exit; our children do not inherit this kind of lock, so it says whether *this* process still works.
pub(crate) fn take(path: &Path) -> anyhow::Result<OwnedFd> {
    let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("open lock file")?;
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).context("lock")?;
    if rustix::fs::fstat(&file).context("stat lock file")?.st_nlink == 0 {
        bail!("the agent has given up on this request");
    }
    Ok(file)
}
