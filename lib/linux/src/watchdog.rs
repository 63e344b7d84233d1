//! A hardware watchdog: once open, the machine restarts unless it is fed in time.
#![expect(unsafe_code, reason = "the watchdog ioctls have no safe wrapper")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// What could not be done with a watchdog.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// It could not be opened.
    #[error("open watchdog {path}")]
    Open {
        /// Device node.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its time was not set.
    #[error("set watchdog to {seconds} s")]
    Timeout {
        /// What was asked.
        seconds: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was not fed.
    #[error("feed watchdog")]
    Feed(#[source] io::Error),
    /// It was not stopped.
    #[error("stop watchdog")]
    Stop(#[source] io::Error),
}

/// `WDIOC_SETTIMEOUT`: `_IOWR('W', 6, int)`.
const SET_TIMEOUT: libc::Ioctl = 0xc004_5706;
/// `WDIOC_GETBOOTSTATUS`: `_IOR('W', 2, int)`.
const GET_BOOT_STATUS: libc::Ioctl = 0x8004_5702;
/// `WDIOF_CARDRESET` of `linux/watchdog.h`: the watchdog caused the last restart.
const CARD_RESET: i32 = 0x20;

/// A running watchdog. Dropping it does not stop it.
#[derive(Debug)]
pub struct Watchdog(File);

impl Watchdog {
    /// Opens and so starts it.
    ///
    /// # Errors
    /// When there is none, or it is in use.
    pub fn open(path: &Path) -> Result<Self, WatchdogError> {
        File::options()
            .write(true)
            .open(path)
            .map(Self)
            .map_err(|source| WatchdogError::Open { path: path.into(), source })
    }

    /// Sets the time without food after which it restarts the machine; gives the time it really uses.
    ///
    /// # Errors
    /// When the hardware cannot.
    pub fn set_timeout(&self, seconds: i32) -> Result<i32, WatchdogError> {
        let mut actual: libc::c_int = seconds;
        // SAFETY: the pointer is to a live, exclusively borrowed int.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), SET_TIMEOUT, &raw mut actual) } == 0 {
            return Ok(actual);
        }
        Err(WatchdogError::Timeout { seconds, source: io::Error::last_os_error() })
    }

    /// Whether it caused the last restart; `false` when it cannot tell.
    #[must_use]
    pub fn caused_last_restart(&self) -> bool {
        let mut status: libc::c_int = 0;
        // SAFETY: the pointer is to a live, exclusively borrowed int.
        unsafe {
            libc::ioctl(self.0.as_raw_fd(), GET_BOOT_STATUS, &raw mut status) == 0
                && status & CARD_RESET != 0
        }
    }

    /// Feeds it.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn feed(&mut self) -> Result<(), WatchdogError> {
        self.0.write_all(b"1").map_err(WatchdogError::Feed)
    }

    /// Stops it, unless the hardware or kernel forbids that.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn stop(mut self) -> Result<(), WatchdogError> {
        self.0.write_all(b"V").map_err(WatchdogError::Stop)
    }
}
