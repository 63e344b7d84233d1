//! File descriptors that a parent left open for us under a number both agreed on.
#![expect(unsafe_code, reason = "taking ownership of a descriptor by number has no safe form")]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers below 64 that were taken already, one bit each.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Why a descriptor cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// It was taken before, or the number is one this module does not look after (0 to 2, 64 and more).
    #[error("file descriptor {0} is not there to be taken")]
    NotOurs(RawFd),
    /// Nothing is open under this number.
    #[error("no file descriptor {number} was left open")]
    NotOpen {
        /// The number.
        number: RawFd,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Takes the descriptor with this number, once in the life of the program, and marks it close-on-exec. To be called
/// before the program has opened anything that could have got the number.
///
/// # Errors
/// When it was taken before, or nothing is open under the number.
pub fn take(number: RawFd) -> Result<OwnedFd, InheritedError> {
    if !(3..64).contains(&number) {
        return Err(InheritedError::NotOurs(number));
    }
    let bit = 1_u64 << number;
    if TAKEN.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return Err(InheritedError::NotOurs(number));
    }
    // SAFETY: the number is not negative, and the borrow ends with this statement.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)
        .map_err(|e| InheritedError::NotOpen { number, source: e.into() })?;
    // SAFETY: it is open (the call above worked), and owned by nobody: `TAKEN` gives it out once, and the caller promises
    // to ask before anything of ours could have opened it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
