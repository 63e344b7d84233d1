//! Signals as something to read: all of them blocked, taken from a descriptor.
//!
//! For single-threaded programs: the mask is set for the calling thread and inherited by what it starts.
#![expect(unsafe_code, reason = "signalfd has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// What could not be done with signals.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The mask was not set.
    #[error("block all signals")]
    Block(#[source] io::Error),
    /// No descriptor to read signals from.
    #[error("signalfd")]
    Open(#[source] io::Error),
    /// A signal could not be read.
    #[error("read a signal")]
    Read(#[source] io::Error),
}

/// All signals of this thread, waiting to be read.
#[derive(Debug)]
pub struct SignalQueue(OwnedFd);

impl SignalQueue {
    /// Blocks every signal and opens the queue.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn open() -> Result<Self, SignalError> {
        // SAFETY: `sigset_t` is a plain array of integers, for which all zeros is a value; the pointers are to a live one.
        let (result, all) = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            (libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()), all)
        };
        if result != 0 {
            return Err(SignalError::Block(io::Error::last_os_error()));
        }
        // SAFETY: -1 asks for a new descriptor; the mask is live.
        let fd =
            unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(SignalError::Open(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The number of the next signal, `None` when there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn next(&self) -> Result<Option<i32>, SignalError> {
        // `struct signalfd_siginfo` is 128 bytes and opens with the number.
        let mut record = [0; 128];
        match rustix::io::read(&self.0, &mut record) {
            Ok(_) => Ok(record.first_chunk().map(|number| i32::from_ne_bytes(*number))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(source) => Err(SignalError::Read(source.into())),
        }
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
