//! One client at a running container: what it hears and what it may say.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use ingot_init_api::Name;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::feed::{Feed, Reader, feed};
use super::stream::poll_write_fd;
use crate::pid1::Pid1;
use crate::readiness::register;

/// A client of a container: dropping a part of it means not to be interested in it.
pub struct Attachment {
    /// What the container reads; `None` when its standard input is empty or closed.
    pub stdin: Option<AttachedInput>,
    /// What it writes to standard output, or to its terminal.
    pub stdout: AttachedOutput,
    /// What it writes to standard error; `None` with a terminal.
    pub stderr: Option<AttachedOutput>,
}

/// The pump's side of a client.
pub(super) struct Feeds {
    pub(super) stdout: Feed,
    pub(super) stderr: Option<Feed>,
}

/// Both sides of a new client.
pub(super) fn attach(
    stdin: Option<Arc<Stdin>>,
    terminal: Option<Arc<OwnedFd>>,
) -> (Attachment, Feeds) {
    let (stdout_feed, stdout) = feed();
    let (stderr_feed, stderr) =
        if terminal.is_some() { (None, None) } else { Some(feed()).unzip() };
    let stdin = stdin.and_then(Stdin::join);
    let stderr = stderr.map(AttachedOutput);
    let attachment = Attachment { stdin, stdout: AttachedOutput(stdout), stderr };
    (attachment, Feeds { stdout: stdout_feed, stderr: stderr_feed })
}

/// What a container writes, from the moment of attaching. Ends with the container. A reader that falls 4 MiB behind gets an
/// error instead of a gap.
pub struct AttachedOutput(Reader);

impl AsyncRead for AttachedOutput {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(context, buffer)
    }
}

/// Our end of a container's standard input, until it is closed for good.
pub(super) struct Stdin {
    ends: Mutex<Ends>,
    /// It is closed when the first client leaves.
    once: bool,
    /// Who keeps a copy, and under which name.
    kept: Option<(Pid1, Name)>,
}

/// One copy for each client, because only one task can wait for a descriptor; all of them go at once.
struct Ends {
    first: Option<OwnedFd>,
    clients: HashMap<u64, Arc<AsyncFd<OwnedFd>>>,
    next: u64,
}

impl Stdin {
    pub(super) fn new(end: OwnedFd, once: bool, kept: Option<(Pid1, Name)>) -> Self {
        let ends = Ends { first: Some(end), clients: HashMap::new(), next: 0 };
        Self { ends: Mutex::new(ends), once, kept }
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more client; `None` when it is closed.
    fn join(self: Arc<Self>) -> Option<AttachedInput> {
        let mut ends = self.lock();
        let copy = ends.first.as_ref()?.try_clone().ok()?;
        let copy = Arc::new(register(copy).ok()?);
        let client = ends.next;
        ends.next += 1;
        ends.clients.insert(client, copy);
        drop(ends);
        Some(AttachedInput { client, stdin: self })
    }

    fn end_of(&self, client: u64) -> Option<Arc<AsyncFd<OwnedFd>>> {
        self.lock().clients.get(&client).cloned()
    }

    /// A client leaves.
    fn leave(&self, client: u64) {
        let mut ends = self.lock();
        let was_there = ends.clients.remove(&client).is_some();
        if !self.once || !was_there {
            return;
        }
        ends.first = None;
        ends.clients.clear();
        drop(ends);
        if let Some((pid1, name)) = self.kept.clone() {
            tokio::spawn(async move {
                if let Err(error) = pid1.drop_fd(name).await {
                    tracing::warn!(error = crate::report::chain(&error), "close standard input");
                }
            });
        }
    }
}

/// What a container reads. Shutting it down, or dropping it, closes the container's standard input when it was asked for
/// one that only the first client gets; otherwise others may go on writing.
pub struct AttachedInput {
    client: u64,
    stdin: Arc<Stdin>,
}

impl AsyncWrite for AttachedInput {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.stdin.end_of(self.client) {
            Some(end) => poll_write_fd(&end, context, bytes),
            // Another client was the first to leave.
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin.leave(self.client);
        Poll::Ready(Ok(()))
    }
}

impl Drop for AttachedInput {
    fn drop(&mut self) {
        self.stdin.leave(self.client);
    }
}
