//! The clocks: setting the wall clock at once or letting it drift into place, and the time since boot.
#![expect(unsafe_code, reason = "adjtimex has no safe wrapper")]

use rustix::time::{ClockId, Timespec};
use std::time::{Duration, SystemTime};

/// What could not be done with a clock.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The wall clock was not set.
    #[error("set the wall clock")]
    Set(#[source] std::io::Error),
    /// The slow correction was not begun.
    #[error("adjust the wall clock by {microseconds} microseconds")]
    Slew {
        /// How far.
        microseconds: i64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A time the kernel cannot hold.
    #[error("the time is out of range")]
    Range,
}

/// Time since boot, suspended time included: `CLOCK_BOOTTIME`.
#[must_use]
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// Sets the wall clock at once.
///
/// # Errors
/// For times before 1970, or when the kernel refuses.
pub fn set(time: SystemTime) -> Result<(), ClockError> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| ClockError::Range)?;
    let time = Timespec {
        tv_sec: since.as_secs().try_into().map_err(|_| ClockError::Range)?,
        tv_nsec: since.subsec_nanos().into(),
    };
    rustix::time::clock_settime(ClockId::Realtime, time).map_err(|e| ClockError::Set(e.into()))
}

/// Lets the wall clock run faster or slower until it has moved by `microseconds`; the kernel moves it by at most 500 ppm.
///
/// # Errors
/// When the kernel refuses.
pub fn slew(microseconds: i64) -> Result<(), ClockError> {
    // SAFETY: `timex` is a plain C struct of integers, for which all zeros is a value.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    request.modes = libc::ADJ_OFFSET_SINGLESHOT;
    request.offset = microseconds;
    // SAFETY: the pointer is to a live, exclusively borrowed `timex`.
    let result = unsafe { libc::adjtimex(&raw mut request) };
    if result < 0 {
        let source = std::io::Error::last_os_error();
        return Err(ClockError::Slew { microseconds, source });
    }
    Ok(())
}
