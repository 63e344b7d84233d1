//! Single processes: when they started, that they ended, a signal to exactly one of them.
//!
//! A pid alone names nobody: pids are reused. Whoever keeps one keeps the start time beside it, or a pidfd.
#![expect(unsafe_code, reason = "waitid with WNOWAIT gives no pid through the safe wrapper")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// What could not be done with a process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Its `stat` file could not be read or understood.
    #[error("read /proc/{pid}/stat")]
    Stat {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No pidfd.
    #[error("pidfd_open({pid})")]
    Open {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The signal was not sent.
    #[error("send signal {signal}")]
    Signal {
        /// Number of the signal.
        signal: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Children could not be waited for.
    #[error("waitid")]
    Wait(#[source] io::Error),
}

/// Field 22 of `/proc/PID/stat`: clock ticks after boot at which the process started. Together with the pid it names a
/// process for ever. A zombie still has one. Allocates nothing.
///
/// # Errors
/// When there is no such process.
pub fn start_time(pid: i32) -> Result<u64, ProcessError> {
    let mut buffer = [0; 1024];
    let stat = read_stat(pid, &mut buffer).map_err(|source| ProcessError::Stat { pid, source })?;
    parse_start_time(stat)
        .ok_or_else(|| ProcessError::Stat { pid, source: io::ErrorKind::InvalidData.into() })
}

/// Who a process belongs to, as `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its parent; 0 when that is in another pid namespace.
    pub parent: i32,
    /// Its session: the pid of the process that began it.
    pub session: i32,
    /// As [`start_time`].
    pub start_time: u64,
}

/// Who a process belongs to.
///
/// # Errors
/// When there is no such process.
pub fn family(pid: i32) -> Result<Family, ProcessError> {
    let mut buffer = [0; 1024];
    let stat = read_stat(pid, &mut buffer).map_err(|source| ProcessError::Stat { pid, source })?;
    let field = |number| parse_field(stat, number).and_then(|field| field.parse().ok());
    parse_start_time(stat)
        .and_then(|start_time| Some(Family { parent: field(4)?, session: field(6)?, start_time }))
        .ok_or_else(|| ProcessError::Stat { pid, source: io::ErrorKind::InvalidData.into() })
}

fn read_stat(pid: i32, buffer: &mut [u8; 1024]) -> io::Result<&[u8]> {
    use std::io::Write;
    let mut path = [0_u8; 32];
    // The last byte stays zero: the longest path, with an eleven-character pid, is 22 bytes.
    if let Some((_, room)) = path.split_last_mut() {
        write!(&mut *room, "/proc/{pid}/stat")?;
    }
    let path =
        std::ffi::CStr::from_bytes_until_nul(&path).map_err(|_| io::ErrorKind::InvalidInput)?;
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let length = rustix::io::read(&file, &mut *buffer)?;
    Ok(buffer.get(..length).unwrap_or_default())
}

fn parse_start_time(stat: &[u8]) -> Option<u64> {
    parse_field(stat, 22)?.parse().ok()
}

/// Field `number`, 3 or more. The command name (field 2) is in parentheses and may hold anything, so fields are counted
/// from the last one.
fn parse_field(stat: &[u8], number: usize) -> Option<&str> {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = stat.get(end_of_name.checked_add(2)?..)?;
    let field = fields.split(|byte| *byte == b' ').nth(number.checked_sub(3)?)?;
    std::str::from_utf8(field).ok()
}

/// A reference to one process that never comes to mean another.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens a process by pid. The caller proves that it is the right one, by being its parent or by the start time.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn open(pid: i32) -> Result<Self, ProcessError> {
        let failed = |source: rustix::io::Errno| ProcessError::Open { pid, source: source.into() };
        let number = Pid::from_raw(pid).ok_or_else(|| failed(rustix::io::Errno::SRCH))?;
        rustix::process::pidfd_open(number, PidfdFlags::NONBLOCK).map(Self).map_err(failed)
    }

    /// Opens the process with this pid and start time, and no other.
    ///
    /// # Errors
    /// When it has ended, also when the pid is in use again.
    pub fn open_exact(pid: i32, start: u64) -> Result<Self, ProcessError> {
        // Read the start time after opening: then the pidfd is of a process at least as old as what was read.
        let pidfd = Self::open(pid)?;
        if start_time(pid)? == start {
            Ok(pidfd)
        } else {
            Err(ProcessError::Open { pid, source: rustix::io::Errno::SRCH.into() })
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        rustix::process::pidfd_send_signal(&self.0, signal).map_err(|source| ProcessError::Signal {
            signal: signal.as_raw(),
            source: source.into(),
        })
    }
}

impl AsFd for Pidfd {
    /// Becomes readable when the process ends.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal to every process but this one and PID 1; for PID 1 at the end of the machine. No process is no error.
///
/// # Errors
/// When the kernel refuses.
pub fn signal_everyone(signal: Signal) -> Result<(), ProcessError> {
    // SAFETY: no memory is passed; -1 means every process the caller may signal.
    if unsafe { libc::kill(-1, signal.as_raw()) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        none if none.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        source => Err(ProcessError::Signal { signal: signal.as_raw(), source }),
    }
}

/// A child of this process, as [`peek_ended_child`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedChild {
    /// This child has ended and waits to be collected.
    Ended(i32),
    /// There are children, all alive.
    NoneYet,
    /// There are no children at all.
    NoChildren,
}

/// Looks for a child that has ended and leaves it uncollected, so that its `/proc` entry can still be read.
///
/// # Errors
/// When the kernel refuses for another reason than having no children.
pub fn peek_ended_child() -> Result<EndedChild, ProcessError> {
    // SAFETY: `siginfo_t` is a C union of integers and pointers, for which all zeros is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is to a live, exclusively borrowed `siginfo_t`.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    if result != 0 {
        let source = io::Error::last_os_error();
        return match source.raw_os_error() {
            Some(libc::ECHILD) => Ok(EndedChild::NoChildren),
            Some(libc::EINTR) => Ok(EndedChild::NoneYet),
            _ => Err(ProcessError::Wait(source)),
        };
    }
    // SAFETY: `waitid` succeeded, so the member for SIGCHLD is set, or still zero when no child has ended.
    match unsafe { info.si_pid() } {
        0 => Ok(EndedChild::NoneYet),
        pid => Ok(EndedChild::Ended(pid)),
    }
}

/// Collects one ended child and gives its raw wait status, or `None` when it is not there or has not ended.
///
/// # Errors
/// When the kernel refuses for another reason.
pub fn collect_child(pid: i32) -> Result<Option<i32>, ProcessError> {
    let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
    match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => Ok(Some(status.as_raw())),
        Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(source) => Err(ProcessError::Wait(source.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_full_of_parentheses_does_not_hide_the_start_time() {
        let line = b"42 (a) R (b)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 2 18446744073709551615";
        assert_eq!(parse_start_time(line), Some(987_654));
        assert_eq!(parse_start_time(b"42 (cut"), None);
        assert_eq!(parse_start_time(b""), None);
        assert_eq!((parse_field(line, 4), parse_field(line, 6)), (Some("1"), Some("42")));
    }

    #[test]
    fn a_child_knows_its_parent_and_shares_its_session() {
        let own = i32::try_from(std::process::id()).expect("pids are positive i32");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("spawn");
        let pid = i32::try_from(child.id()).expect("pid");
        let (family, ours) = (family(pid).expect("child"), family(own).expect("own"));
        assert_eq!((family.parent, family.session), (own, ours.session));
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    #[test]
    fn the_start_time_of_a_living_process_is_stable() {
        let own = std::process::id().try_into().expect("pids are positive i32");
        assert_eq!(start_time(own).expect("own"), start_time(own).expect("own"));
        assert!(start_time(-1).is_err());
    }
}
