//! The end of a container's first process, as every kind of pod task sees it: waiting for PID 1 to tell, and understanding
//! what it tells. It writes nothing down and acknowledges nothing: the task does, in this order (drain the output, write the
//! end down, tell PID 1 to forget it, remove what is left).

use ingot_init_api::Exit;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::cgroup::{Cgroup, number_after};

/// Exit code of a run whose end nobody saw.
pub(crate) const UNKNOWN_EXIT: i32 = 255;

/// Exit code of a run whose program could not be executed.
const START_ERROR_EXIT: i32 = 128;

/// 64 hex digits nobody has used before.
pub(crate) fn new_id() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a name looks as [`new_id`] makes them.
pub(crate) fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Has the end of a process come in as a message. `exit` is `None` when PID 1 does not know the process, and then the
/// message is made without one.
pub(crate) fn expect_end<T: Send + 'static>(
    exit: Option<oneshot::Receiver<Exit>>,
    ended: mpsc::Sender<T>,
    message: impl FnOnce(Option<Exit>) -> T + Send + 'static,
) {
    tokio::spawn(async move {
        let exit = match exit {
            Some(exit) => match exit.await {
                Ok(exit) => Some(exit),
                // The connection to PID 1 is gone; the next agent is told again.
                Err(_) => return,
            },
            None => None,
        };
        // Fails only when the task is gone.
        let _ = ended.send(message(exit)).await;
    });
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// 0 to 255; 128 and the signal when one killed it; [`UNKNOWN_EXIT`] when nobody knows.
    pub(crate) code: i32,
    /// Signal that killed it, or 0.
    pub(crate) signal: i32,
    /// As Kubernetes names it.
    pub(crate) reason: &'static str,
    /// When.
    pub(crate) finished_at: Timestamp,
}

impl Ending {
    /// What PID 1 says, and whether the kernel killed in the container for memory. `None`: nobody knows.
    pub(crate) fn new(exit: Option<Exit>, killed_for_memory: bool) -> Self {
        let Some(exit) = exit else { return Self::unknown() };
        let signal = exit.wait_status & 0x7f;
        let code = if signal == 0 { (exit.wait_status >> 8) & 0xff } else { 128 + signal };
        let reason = match (code, killed_for_memory) {
            (137, true) => "OOMKilled",
            (0, _) => "Completed",
            _ => "Error",
        };
        let ended_at = Timestamp::from_nanosecond(i128::from(exit.ended_at_ns));
        let finished_at = ended_at.unwrap_or_else(|_| Timestamp::now());
        Self { code, signal, reason, finished_at }
    }

    /// Its program could not be executed; code and reason are containerd's, which tools know.
    pub(crate) fn not_started() -> Self {
        let finished_at = Timestamp::now();
        Self { code: START_ERROR_EXIT, signal: 0, reason: "StartError", finished_at }
    }

    /// Nobody saw it end.
    pub(crate) fn unknown() -> Self {
        let finished_at = Timestamp::now();
        Self { code: UNKNOWN_EXIT, signal: 0, reason: "Unknown", finished_at }
    }
}

/// Whether the kernel killed in this cgroup for memory. To be asked while it still exists.
pub(crate) fn killed_for_memory(cgroup: &Cgroup) -> bool {
    number_after(&cgroup.text("memory.events"), "oom_kill").unwrap_or(0) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(wait_status: i32) -> Option<Exit> {
        Some(Exit { pid: 1, start_time: 2, wait_status, ended_at_ns: 1_700_000_000_000_000_000 })
    }

    #[test]
    fn a_kill_is_one_for_memory_only_when_the_kernel_says_so() {
        assert_eq!(Ending::new(exit(9), true).reason, "OOMKilled");
        assert_eq!(Ending::new(exit(9), false).reason, "Error");
        assert_eq!(Ending::new(exit(9), false).code, 137);
        // A child was killed; the container itself went on and ended well.
        assert_eq!(Ending::new(exit(0), true).reason, "Completed");
    }

    #[test]
    fn an_end_that_nobody_saw_is_255_and_unknown() {
        let ending = Ending::new(None, true);
        assert_eq!((ending.code, ending.reason), (255, "Unknown"));
    }
}
