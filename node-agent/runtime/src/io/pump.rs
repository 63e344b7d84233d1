//! The task that moves a container's output into its log, and shows it to whoever is attached.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ingot_linux::pipe::Spliced;
use ingot_linux::pty;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::{mpsc, oneshot, watch};

use super::attach::Feeds;
use crate::logs::LogStream;
use crate::logs::writer::{LogWriter, Tap};
use crate::readiness::register;

/// Turns after which the final drain stops: more than a pipe holds ([`LogWriter::pump`] moves 256 KiB in a turn).
const DRAIN_TURNS: u32 = 8;

/// Bytes taken from a terminal at a time: a few times what it gives at once.
const TERMINAL_CHUNK: usize = 16 * 1024;

/// How long a log that was renamed while no agent ran is written under its new name, for whoever renamed it to put it back:
/// the request to reopen it failed, and the kubelet undoes the renaming then.
const RENAMED_GRACE: Duration = Duration::from_secs(15);

/// What a pump is told.
pub(super) enum Command {
    /// Open the log's path again.
    Reopen(oneshot::Sender<io::Result<()>>),
    /// Somebody wants to see what comes.
    Attach(Feeds, oneshot::Sender<()>),
    /// The container has ended. Answers how many bytes the disk refused.
    Finish(oneshot::Sender<u64>),
}

/// Where output comes from.
pub(super) struct Source {
    stream: LogStream,
    fd: AsyncFd<OwnedFd>,
    /// With a terminal: the pipe that its output goes through, and a slave of our own, so that a container that closes its
    /// terminal for a while does not look like one that has ended.
    terminal: Option<(OwnedFd, OwnedFd, OwnedFd)>,
    open: bool,
}

impl Source {
    pub(super) fn pipe(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { stream: LogStream::Stdout, fd: register(fd)?, terminal: None, open: true })
    }

    pub(super) fn error_pipe(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { stream: LogStream::Stderr, ..Self::pipe(fd)? })
    }

    pub(super) fn terminal(master: OwnedFd, through: (OwnedFd, OwnedFd)) -> io::Result<Self> {
        let slave = pty::slave_of(&master)?;
        let (read, write) = through;
        Ok(Self { terminal: Some((read, write, slave)), ..Self::pipe(master)? })
    }
}

/// The task.
pub(super) struct Pump {
    writer: LogWriter,
    sources: Vec<Source>,
    clients: Vec<Feeds>,
    written: Option<Arc<watch::Sender<u64>>>,
    orders: mpsc::Receiver<Command>,
    dropped: u64,
}

/// What happened first.
enum Happened {
    Readable(usize),
    Order(Option<Command>),
    Renamed,
}

impl Pump {
    pub(super) fn new(
        writer: LogWriter,
        sources: Vec<Source>,
        written: Option<Arc<watch::Sender<u64>>>,
        orders: mpsc::Receiver<Command>,
    ) -> Self {
        Self { writer, sources, clients: Vec::new(), written, orders, dropped: 0 }
    }

    pub(super) async fn run(mut self) {
        let renamed = self.writer.is_renamed();
        let mut grace = Box::pin(tokio::time::sleep(RENAMED_GRACE));
        let (mut heal, mut turn) = (renamed, 0_usize);
        let finish = loop {
            turn = turn.wrapping_add(1);
            // Cancel-safe: readiness and receiving only; bytes move in calls that cannot be cancelled.
            let happened = tokio::select! {
                index = readable(&self.sources, turn) => Happened::Readable(index),
                order = self.orders.recv() => Happened::Order(order),
                () = &mut grace, if heal => Happened::Renamed,
            };
            match happened {
                Happened::Readable(index) => self.step(index),
                Happened::Order(Some(Command::Attach(feeds, done))) => {
                    self.clients.push(feeds);
                    // Who asked may have gone away.
                    let _ = done.send(());
                }
                Happened::Order(Some(Command::Reopen(done))) => {
                    // Who asked may have gone away.
                    let _ = done.send(self.writer.reopen());
                    heal = false;
                }
                Happened::Order(Some(Command::Finish(done))) => break Some(done),
                // Nobody is left who could say that the container has ended.
                Happened::Order(None) => break None,
                Happened::Renamed => {
                    heal = false;
                    if self.writer.is_renamed()
                        && let Err(error) = self.writer.reopen()
                    {
                        tracing::warn!(%error, "open the log of a container again");
                    }
                }
            }
            self.wrote();
            // Readiness costs no budget of the scheduler: without this a container that writes faster than we log would have
            // the agent's only thread for itself.
            tokio::task::yield_now().await;
        };
        self.drain().await;
        if let Some(done) = finish {
            // Nobody is interested.
            let _ = done.send(self.dropped);
        }
    }

    /// Every process of the container is dead, so what the pipes hold now is all there will be, even if somebody outside has
    /// been handed a write end.
    async fn drain(&mut self) {
        for index in 0..self.sources.len() {
            // Bounded: the write end may have been handed to another container, which writes on for ever.
            for _ in 0..DRAIN_TURNS {
                let Some(source) = self.sources.get(index) else { break };
                let moved = move_output(&mut self.writer, &mut self.clients, source);
                let Ok(Spliced::Moved(_)) = moved else { break };
                tokio::task::yield_now().await;
            }
        }
        self.writer.finish();
        self.wrote();
    }

    fn wrote(&mut self) {
        self.dropped += self.writer.take_dropped();
        if let Some(written) = &self.written {
            written.send_modify(|count| *count += 1);
        }
    }

    /// Moves what is there.
    fn step(&mut self, index: usize) {
        let Some(source) = self.sources.get_mut(index) else { return };
        // Before the move: what comes in during it must not be forgotten.
        let guard = ready(&source.fd);
        let result = move_output(&mut self.writer, &mut self.clients, source);
        if let (Some(mut guard), false) = (guard, matches!(result, Ok(Spliced::Moved(_)))) {
            guard.clear_ready();
        }
        match result {
            Ok(Spliced::Moved(_) | Spliced::Empty) => {}
            Ok(Spliced::End) => source.open = false,
            // The spool takes nothing: tmpfs is full. The pipe keeps the bytes; look again at the next write or the end.
            Err(error) => tracing::warn!(%error, "move container output"),
        }
    }
}

/// Moves what a source has, at most 256 KiB.
fn move_output(
    writer: &mut LogWriter,
    clients: &mut Vec<Feeds>,
    source: &Source,
) -> io::Result<Spliced> {
    clients.retain(Feeds::is_read);
    let listened_to = !clients.is_empty();
    let mut show = |bytes: &[u8]| {
        let bytes: Arc<[u8]> = bytes.into();
        clients.iter_mut().for_each(|client| client.push(source.stream, &bytes));
    };
    let tap: Option<Tap<'_>> = if listened_to { Some(&mut show) } else { None };
    let Some((read, write, _)) = &source.terminal else {
        return writer.pump(source.stream, source.fd.get_ref(), tap);
    };
    let moved = pty::splice_to_pipe(source.fd.get_ref(), write, TERMINAL_CHUNK)?;
    writer.pump(source.stream, read, tap)?;
    Ok(moved)
}

impl Feeds {
    fn is_read(&self) -> bool {
        self.stdout.is_read() || self.stderr.as_ref().is_some_and(|feed| feed.is_read())
    }

    fn push(&mut self, stream: LogStream, bytes: &Arc<[u8]>) {
        match (stream, &self.stderr) {
            (LogStream::Stdout, _) => drop(self.stdout.push(bytes)),
            (LogStream::Stderr, Some(feed)) => drop(feed.push(bytes)),
            (LogStream::Stderr, None) => {}
        }
    }
}

/// Waits for one of the sources; the one that is asked first changes with `turn`, so that a source that is always full does
/// not starve the others.
fn readable(sources: &[Source], turn: usize) -> Readable<'_> {
    Readable { sources, turn }
}

struct Readable<'a> {
    sources: &'a [Source],
    turn: usize,
}

impl Future for Readable<'_> {
    type Output = usize;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        let count = self.sources.len();
        for offset in 0..count {
            let index = self.turn.wrapping_add(offset) % count;
            let Some(source) = self.sources.get(index).filter(|source| source.open) else {
                continue;
            };
            if source.fd.poll_read_ready(context).is_ready() {
                return Poll::Ready(index);
            }
        }
        Poll::Pending
    }
}

/// The readiness of a descriptor that was reported ready.
fn ready(fd: &AsyncFd<OwnedFd>) -> Option<AsyncFdReadyGuard<'_, OwnedFd>> {
    let mut context = Context::from_waker(std::task::Waker::noop());
    match fd.poll_read_ready(&mut context) {
        Poll::Ready(guard) => guard.ok(),
        Poll::Pending => None,
    }
}
