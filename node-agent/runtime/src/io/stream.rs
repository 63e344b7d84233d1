//! Descriptors of a program as streams that a task can read and write.
//!
//! The end of a program counts as the end of its output shortly after, even when somebody it left behind holds the pipe
//! open: an exec probe that starts a daemon must not hang for ever.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::readiness::register;

/// How long output is waited for after the program's end. Far more than the kernel needs to hand over what is written.
const DRAIN: Duration = Duration::from_secs(1);

/// Bytes that are read after that: as many as a pipe of a program that has ended may hold.
const DRAIN_BYTES: usize = 1 << 20;

/// What a program writes.
pub struct Output {
    fd: AsyncFd<OwnedFd>,
    /// Done a while after the program's end.
    drained: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// Bytes to read once that is done.
    left: Option<usize>,
    done: bool,
}

impl Output {
    /// Reads from a non-blocking descriptor until its end, or a while after `ended` has an exit code.
    pub(crate) fn new(fd: OwnedFd, mut ended: watch::Receiver<Option<i32>>) -> io::Result<Self> {
        let drained = Box::pin(async move {
            // An error means that nobody will tell: then only the end of the pipe counts.
            if ended.wait_for(Option::is_some).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(DRAIN).await;
        });
        Ok(Self { fd: register(fd)?, drained, left: None, done: false })
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.left.is_none() && this.drained.as_mut().poll(context).is_ready() {
            this.left = Some(DRAIN_BYTES);
        }
        if this.done || this.left == Some(0) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut guard = match this.fd.poll_read_ready(context) {
                Poll::Ready(guard) => guard?,
                Poll::Pending if this.left.is_some() => {
                    this.done = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Pending,
            };
            let read = guard.try_io(|fd| {
                rustix::io::read(fd.get_ref(), buffer.initialize_unfilled()).map_err(Into::into)
            });
            match read {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    this.left = this.left.map(|left| left.saturating_sub(length));
                    return Poll::Ready(Ok(()));
                }
                // A terminal's way to say that no program has it open any more.
                Ok(Err(e)) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    this.done = true;
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

/// What a program reads. Shutting it down closes it; a terminal stays open as long as its output is read.
pub struct Input {
    fd: Option<AsyncFd<OwnedFd>>,
}

impl Input {
    /// Writes to a non-blocking descriptor.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: Some(register(fd)?) })
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &self.fd {
            Some(fd) => poll_write_fd(fd, context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fd = None;
        Poll::Ready(Ok(()))
    }
}

/// Writes to a non-blocking descriptor when it takes something.
pub(super) fn poll_write_fd(
    fd: &AsyncFd<OwnedFd>,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        let mut guard = ready!(fd.poll_write_ready(context))?;
        let written =
            guard.try_io(|fd| rustix::io::write(fd.get_ref().as_fd(), bytes).map_err(Into::into));
        if let Ok(result) = written {
            return Poll::Ready(result);
        }
    }
}
