//! Locks that say whether another process still works on something: `F_SETLK`, held by one process and no child of it.

use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

/// Withdraws the right to take the lock on `path`: removes the file, unless another process holds the lock now.
///
/// Returns false when another process holds it; true when nobody holds it and, because a later comer finds the file gone
/// (or sees that it has no name any more), nobody ever will.
///
/// # Errors
/// When the file cannot be opened, locked or removed for another reason.
pub fn withdraw(path: &Path) -> std::io::Result<bool> {
    let file = match rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    rustix::fs::unlink(path)?;
    Ok(true)
}
