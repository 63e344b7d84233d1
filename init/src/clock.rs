//! The two clocks of PID 1 as plain numbers.

use rustix::time::{ClockId, Timespec};

use crate::supervise::Milliseconds;

/// Milliseconds since boot, suspended time included.
#[must_use]
pub fn now() -> Milliseconds {
    nanoseconds(rustix::time::clock_gettime(ClockId::Boottime)).checked_div(1_000_000).unwrap_or(0)
}

/// Nanoseconds since 1970.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    nanoseconds(rustix::time::clock_gettime(ClockId::Realtime))
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
