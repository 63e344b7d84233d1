//! Starting `ingot-runc` for one job. The helper is spawned, never forked, with nothing inherited but its socket.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ingot_linux::packet;
use ingot_runc_api::{MESSAGE_LENGTH_MAX, Reply, Request};

/// How long the helper may take; a second would do on any machine, but software emulation is slow.
const DEADLINE: Duration = Duration::from_secs(60);

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
    /// The request could not be given to it.
    #[error("send a request to ingot-runc")]
    Send(#[source] std::io::Error),
    /// It gave no answer in time, or ended without one.
    #[error("get the answer of ingot-runc")]
    Receive(#[source] std::io::Error),
    /// The answer is not understood.
    #[error("understand the answer of ingot-runc")]
    Answer(#[source] serde_json::Error),
    /// It says why it could not.
    #[error("{0}")]
    Failed(String),
}

/// Runs the helper for one request. Blocks; call it where that is allowed.
pub(crate) fn run(
    program: &Path,
    request: &Request,
    descriptors: &[OwnedFd],
) -> Result<Reply, RuncError> {
    let spawn = |source| RuncError::Spawn { path: program.to_owned(), source };
    let (ours, theirs) = packet::pair().map_err(spawn)?;
    let mut child = Command::new(program)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(spawn)?;
    let answer = exchange(&ours, request, descriptors);
    if answer.is_err() {
        // It may hang; what it leaves behind is rolled back by the caller. It may also be gone already.
        let _ = child.kill();
    }
    let _ = child.wait();
    match answer? {
        Reply::Failed { message } => Err(RuncError::Failed(message)),
        reply => Ok(reply),
    }
}

fn exchange(
    socket: &OwnedFd,
    request: &Request,
    descriptors: &[OwnedFd],
) -> Result<Reply, RuncError> {
    let bytes = serde_json::to_vec(request).map_err(|e| RuncError::Send(e.into()))?;
    let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
    packet::send(socket, &bytes, &descriptors).map_err(RuncError::Send)?;
    packet::set_receive_timeout(socket, DEADLINE).map_err(RuncError::Receive)?;
    let mut bytes = vec![0; MESSAGE_LENGTH_MAX];
    let received = packet::receive(socket, &mut bytes).map_err(RuncError::Receive)?;
    if received.length == 0 {
        return Err(RuncError::Receive(std::io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(bytes.get(..received.length).unwrap_or_default())
        .map_err(RuncError::Answer)
}
