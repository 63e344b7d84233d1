//! Starting `ingot-runc` for one job. The helper is spawned, never forked, with nothing inherited but its socket.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ingot_linux::process::Pidfd;
use ingot_linux::{packet, poll};
use ingot_runc_api::{MESSAGE_LENGTH_MAX, REPLY_LENGTH_MAX, Reply, Request};

/// How long the helper may take; a second would do on any machine, but software emulation is slow.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the helper may take to end once it has answered.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

/// Why the helper did not do its job.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuncError {
    /// It could not be started.
    #[error("start {path}")]
    Spawn {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// There is more to say than fits a request.
    #[error(
        "the container has too many mounts and devices: {length} bytes of {MESSAGE_LENGTH_MAX}"
    )]
    TooLong { length: usize },
    /// The request could not be given to it.
    #[error("send a request to ingot-runc")]
    Send(#[source] std::io::Error),
    /// It ended without an answer.
    #[error("ingot-runc ended without an answer")]
    Died,
    /// It gave no answer in time.
    #[error("get the answer of ingot-runc")]
    Receive(#[source] std::io::Error),
    /// The answer is not understood.
    #[error("understand the answer of ingot-runc")]
    Answer(#[source] serde_json::Error),
    /// It says why it could not.
    #[error("{0}")]
    Failed(String),
}

/// Runs the helper for one request. `descriptors` go along with it; those that come back are returned. Blocks; call it where
/// that is allowed.
pub(crate) fn run(
    program: &Path,
    request: &Request,
    descriptors: &[OwnedFd],
) -> Result<(Reply, Vec<OwnedFd>), RuncError> {
    let spawn = |source| RuncError::Spawn { path: program.to_owned(), source };
    let bytes = serde_json::to_vec(request).map_err(|e| RuncError::Send(e.into()))?;
    if bytes.len() > MESSAGE_LENGTH_MAX {
        return Err(RuncError::TooLong { length: bytes.len() });
    }
    let (ours, theirs) = packet::pair().map_err(spawn)?;
    // Our copy of the helper's end goes away with the command: when the helper dies, the socket ends at once. A working folder
    // would have the standard library copy all of this process first; the helper leaves ours by itself.
    let mut child = Command::new(program)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(spawn)?;
    let process = i32::try_from(child.id()).ok().and_then(|pid| Pidfd::open(pid).ok());
    let answer = exchange(&ours, process.as_ref(), &bytes, descriptors);
    drop(ours);
    end(&mut child, process.as_ref(), answer.is_err());
    match answer? {
        (Reply::Failed { message }, _) => Err(RuncError::Failed(message)),
        answer => Ok(answer),
    }
}

/// Waits for the helper to go, for a while: it has nothing left to do. One that stays is killed, and one that cannot be
/// killed (it hangs in the kernel) is left to be reaped by whoever comes after us.
fn end(child: &mut Child, process: Option<&Pidfd>, kill: bool) {
    if kill {
        // It may be gone already; what it leaves behind is rolled back by the caller.
        let _ = child.kill();
    }
    let ended = |limit: Duration| process.is_none_or(|process| poll::readable(process, limit));
    if !ended(LEAVE_DEADLINE) {
        let _ = child.kill();
        if !ended(LEAVE_DEADLINE) {
            return;
        }
    }
    // Cannot block: it has ended.
    let _ = child.wait();
}

fn exchange(
    socket: &OwnedFd,
    process: Option<&Pidfd>,
    request: &[u8],
    descriptors: &[OwnedFd],
) -> Result<(Reply, Vec<OwnedFd>), RuncError> {
    let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
    packet::send(socket, request, &descriptors).map_err(RuncError::Send)?;
    // What the helper started has its end of the socket, too, so the socket alone does not tell of its death.
    let answered = match process {
        Some(process) => poll::any_readable([socket.as_fd(), process.as_fd()], DEADLINE),
        None => [poll::readable(socket, DEADLINE), false],
    };
    if answered == [false, false] {
        return Err(RuncError::Receive(std::io::ErrorKind::TimedOut.into()));
    }
    // It may have answered and ended; what is not there now never comes.
    packet::set_nonblocking(socket).map_err(RuncError::Receive)?;
    let mut bytes = vec![0; REPLY_LENGTH_MAX];
    let received = match packet::receive(socket, &mut bytes) {
        Ok(received) if received.length > 0 => received,
        Ok(_) => return Err(RuncError::Died),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Err(RuncError::Died),
        Err(e) => return Err(RuncError::Receive(e)),
    };
    let reply = serde_json::from_slice(bytes.get(..received.length).unwrap_or_default())
        .map_err(RuncError::Answer)?;
    Ok((reply, received.descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2021_43784_a_request_that_does_not_fit_is_refused_and_never_cut() {
        let long = ingot_runc_api::Sandbox {
            folder: PathBuf::from("/run"),
            lock: PathBuf::from("/run/lock"),
            hostname: Some("x".repeat(MESSAGE_LENGTH_MAX)),
            network: false,
            ipc: false,
            pid: None,
            user: None,
            sysctls: Vec::new(),
            tmpfs: Vec::new(),
        };
        // The program is never started.
        let result = run(Path::new("/bin/true"), &Request::Sandbox(long), &[]);
        assert!(matches!(result, Err(RuncError::TooLong { .. })), "{result:?}");
    }
}
