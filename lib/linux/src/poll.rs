//! Waiting for one descriptor, with a deadline. For threads that may block.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

/// Waits until one of `of` can be read, has ended or has failed (a pidfd: until its process has ended), at most for `limit`.
/// Says which; none when the time is over.
#[must_use]
pub fn any_readable<const N: usize>(of: [BorrowedFd<'_>; N], limit: Duration) -> [bool; N] {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut wanted = of.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        match rustix::event::poll(&mut wanted, Some(&timeout)) {
            Ok(_) => return wanted.map(|fd| !fd.revents().is_empty()),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return [false; N],
        }
    }
}

/// The same for one. False when it was not.
#[must_use]
pub fn readable(of: impl AsFd, limit: Duration) -> bool {
    any_readable([of.as_fd()], limit) == [true]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_seen_and_its_life_is_not() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let pid = child.id().try_into().expect("pids are positive i32");
        let process = crate::process::Pidfd::open(pid).expect("open");
        assert!(!readable(&process, Duration::ZERO));
        child.kill().expect("kill");
        assert!(readable(&process, Duration::from_secs(60)));
        child.wait().expect("wait");
    }
}
