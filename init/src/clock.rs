//! The two clocks of PID 1 as plain numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use ingot_linux::clock::since_boot;

use crate::supervise::Milliseconds;

/// Milliseconds since boot, suspended time included.
#[must_use]
pub fn now() -> Milliseconds {
    u64::try_from(since_boot().as_millis()).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970, 0 before.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
