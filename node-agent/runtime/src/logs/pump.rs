//! The task that moves a container's output into its log while it runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ingot_linux::pipe::Spliced;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::LogStream;
use super::writer::LogWriter;

/// Turns after which the final drain stops: more than a pipe holds ([`LogWriter::pump`] moves 256 KiB in a turn).
const DRAIN_TURNS: u32 = 8;

/// A running pump.
pub(crate) struct Pump {
    finish: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<u64>,
}

impl Pump {
    /// Starts moving. `written` is touched after each write, for readers that follow.
    pub(crate) fn start(
        writer: LogWriter,
        stdout: OwnedFd,
        stderr: OwnedFd,
        written: Arc<watch::Sender<u64>>,
    ) -> std::io::Result<Self> {
        let stdout = crate::readiness::register(stdout)?;
        let stderr = crate::readiness::register(stderr)?;
        let (finish, finished) = oneshot::channel();
        let task = tokio::spawn(run(writer, [stdout, stderr], written, finished));
        Ok(Self { finish, task })
    }

    /// The container has ended: moves what its pipes still hold, and stops. Returns how many bytes the disk refused.
    pub(crate) async fn finish(self) -> u64 {
        // Fails only when the task is over already.
        let _ = self.finish.send(());
        self.task.await.unwrap_or(0)
    }
}

async fn run(
    mut writer: LogWriter,
    [stdout, stderr]: [AsyncFd<OwnedFd>; 2],
    written: Arc<watch::Sender<u64>>,
    mut finished: oneshot::Receiver<()>,
) -> u64 {
    let mut dropped = 0;
    let (mut stdout_open, mut stderr_open) = (true, true);
    loop {
        // Cancel-safe: readiness only; bytes move in calls that cannot be cancelled. Not biased: a stream that is always
        // full must not starve the other one, nor the end.
        tokio::select! {
            guard = stdout.readable(), if stdout_open => {
                let Ok(mut guard) = guard else { break };
                stdout_open = step(&mut writer, LogStream::Stdout, &mut guard);
            }
            guard = stderr.readable(), if stderr_open => {
                let Ok(mut guard) = guard else { break };
                stderr_open = step(&mut writer, LogStream::Stderr, &mut guard);
            }
            // Every process of the container is dead, so what the pipes hold now is all there will be, even if somebody
            // outside has been handed a write end.
            _ = &mut finished => break,
        }
        dropped += writer.take_dropped();
        written.send_modify(|count| *count += 1);
        // Readiness costs no budget of the scheduler: without this a container that writes faster than we log would have
        // the agent's only thread for itself.
        tokio::task::yield_now().await;
    }
    for (stream, pipe) in [(LogStream::Stdout, &stdout), (LogStream::Stderr, &stderr)] {
        // Bounded: the write end may have been handed to another container, which writes on for ever.
        for _ in 0..DRAIN_TURNS {
            let Ok(Spliced::Moved(_)) = writer.pump(stream, pipe.get_ref(), None) else { break };
            tokio::task::yield_now().await;
        }
    }
    writer.finish();
    written.send_modify(|count| *count += 1);
    dropped + writer.take_dropped()
}

/// Moves what is there; false when the stream has ended.
fn step(
    writer: &mut LogWriter,
    stream: LogStream,
    guard: &mut tokio::io::unix::AsyncFdReadyGuard<'_, OwnedFd>,
) -> bool {
    match writer.pump(stream, guard.get_inner(), None) {
        Ok(Spliced::Moved(_)) => true,
        Ok(Spliced::Empty) => {
            guard.clear_ready();
            true
        }
        Ok(Spliced::End) => false,
        Err(error) => {
            // The spool takes nothing: tmpfs is full. The pipe keeps the bytes; look again at the next write or the end.
            tracing::warn!(%error, "move container output");
            guard.clear_ready();
            true
        }
    }
}

#[cfg(test)]
mod tests;
