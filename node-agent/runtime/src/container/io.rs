//! Standard descriptors of a container: our ends are with PID 1, too, so that a container outlives the agent.

use std::os::fd::OwnedFd;

use ingot_init_api::Name;
use ingot_linux::pipe;

use super::ContainerError;
use crate::config::{ContainerConfig, UserNamespace};
use crate::context::Context;

/// Room in a pipe: what a container may write while the agent restarts, before it has to wait.
const PIPE_BYTES: usize = 1 << 20;

/// Our ends.
#[derive(Debug)]
pub(crate) enum Io {
    /// Pipes; standard input only when it was asked for.
    Pipes {
        /// Write end.
        stdin: Option<OwnedFd>,
        /// Read end.
        stdout: OwnedFd,
        /// Read end.
        stderr: OwnedFd,
    },
    /// The master of a terminal.
    Terminal(OwnedFd),
}

/// Which descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdin,
    Stdout,
    Stderr,
    Terminal,
}

impl Stream {
    const ALL: [Self; 4] = [Self::Stdin, Self::Stdout, Self::Stderr, Self::Terminal];

    fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Terminal => "tty",
        }
    }
}

/// Name under which PID 1 keeps a descriptor.
pub(crate) fn pipe_name(id: &str, stream: Stream) -> Result<Name, std::io::Error> {
    Name::new(&format!("{id}.{}", stream.as_str())).map_err(std::io::Error::other)
}

/// Our ends, and those of the container; no ends of ours when it gets a terminal, which it makes itself.
pub(super) fn make(config: &ContainerConfig) -> std::io::Result<(Option<Io>, Vec<OwnedFd>)> {
    if config.tty {
        return Ok((None, Vec::new()));
    }
    let (stdout, stdout_write) = pipe::with_size(PIPE_BYTES)?;
    let (stderr, stderr_write) = pipe::with_size(PIPE_BYTES)?;
    let mut theirs = vec![stdout_write, stderr_write];
    let mut stdin = None;
    if config.stdin {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&write, true)?;
        theirs.insert(0, read);
        stdin = Some(write);
    }
    Ok((Some(Io::Pipes { stdin, stdout, stderr }), theirs))
}

/// Gives the container's ends to its user: a program that is not root could not open `/dev/stdout` otherwise.
pub(super) fn hand_over(theirs: &[OwnedFd], namespace: Option<&UserNamespace>, uid: u32) {
    let outside = match namespace.map(|namespace| namespace.uids) {
        None => Some(uid),
        Some(ids) => uid
            .checked_sub(ids.container_id)
            .filter(|offset| *offset < ids.length)
            .and_then(|offset| ids.host_id.checked_add(offset)),
    };
    let Some(outside) = outside else { return };
    for fd in theirs {
        // Everything else works without.
        let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(outside)), None);
    }
}

/// Gives copies of our ends to PID 1.
pub(super) async fn keep(
    context: &Context,
    id: &str,
    ours: &Option<Io>,
) -> Result<(), ContainerError> {
    let all: Vec<(Stream, &OwnedFd)> = match ours {
        None => Vec::new(),
        Some(Io::Terminal(master)) => vec![(Stream::Terminal, master)],
        Some(Io::Pipes { stdin, stdout, stderr }) => stdin
            .iter()
            .map(|stdin| (Stream::Stdin, stdin))
            .chain([(Stream::Stdout, stdout), (Stream::Stderr, stderr)])
            .collect(),
    };
    let kept = all.into_iter().map(async |(stream, ours)| {
        let copy = ours.try_clone().map_err(ContainerError::Pipes)?;
        let name = pipe_name(id, stream).map_err(ContainerError::Pipes)?;
        Ok::<_, ContainerError>(context.pid1.store_fd(name, copy).await?)
    });
    // All questions first, then all answers: PID 1 is woken once.
    futures::future::try_join_all(kept).await.map(drop)
}

/// Our ends, with the terminal that the helper has sent.
pub(super) async fn complete(
    context: &Context,
    id: &str,
    ours: Option<Io>,
    descriptors: Vec<OwnedFd>,
) -> Result<Io, ContainerError> {
    if let Some(ours) = ours {
        return Ok(ours);
    }
    let master = descriptors.into_iter().next();
    let missing = || ContainerError::Pipes(std::io::ErrorKind::UnexpectedEof.into());
    let master = Some(Io::Terminal(master.ok_or_else(missing)?));
    keep(context, id, &master).await?;
    master.ok_or_else(missing)
}

/// Which of them PID 1 keeps of a container; all that there are, where nobody knows what it was.
pub(super) fn kept(config: Option<&ContainerConfig>) -> &'static [Stream] {
    match config {
        None => &Stream::ALL,
        Some(config) if config.tty => &[Stream::Terminal, Stream::Stdout],
        Some(config) if config.stdin => &[Stream::Stdin, Stream::Stdout, Stream::Stderr],
        Some(_) => &[Stream::Stdout, Stream::Stderr],
    }
}

/// Has PID 1 forget them.
pub(super) async fn forget(
    context: &Context,
    id: &str,
    streams: &[Stream],
) -> Result<(), ContainerError> {
    let forgotten = streams.iter().map(async |stream| {
        let name = pipe_name(id, *stream).map_err(ContainerError::Pipes)?;
        Ok::<_, ContainerError>(context.pid1.drop_fd(name).await?)
    });
    futures::future::try_join_all(forgotten).await.map(drop)
}
