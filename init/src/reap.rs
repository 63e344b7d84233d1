//! Collects ended children. PID 1 is the only process that may wait for any child, and this is its only place.

use ingot_init_api::Exit;
use ingot_linux::process::{self, EndedChild};

use crate::clock;

/// What [`next`] found.
pub enum Reaped {
    /// This child ended and is collected.
    Child(Exit),
    /// Children are left, all alive.
    NoneYet,
    /// There are no children at all.
    NoChildren,
}

/// Collects one ended child.
#[must_use]
pub fn next() -> Reaped {
    // Look first, collect after: only an uncollected process still shows when it started, and without that an exit could
    // be taken for that of an older process with the same pid.
    let pid = match process::peek_ended_child() {
        Ok(EndedChild::Ended(pid)) => pid,
        Ok(EndedChild::NoChildren) => return Reaped::NoChildren,
        Ok(EndedChild::NoneYet) | Err(_) => return Reaped::NoneYet,
    };
    let start_time = process::start_time(pid).unwrap_or(0);
    match process::collect_child(pid) {
        Ok(Some(wait_status)) => Reaped::Child(Exit {
            pid,
            start_time,
            wait_status,
            ended_at_ns: clock::wall_clock_ns(),
        }),
        _ => Reaped::NoneYet,
    }
}
