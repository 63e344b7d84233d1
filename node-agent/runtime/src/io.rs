//! What a container says and hears while it runs: its log, everybody attached to it, its terminal.
//!
//! One task for each container moves its output, first into its log, then to whoever is attached. It must never wait for
//! a reader: a container that nobody listens to, or somebody slow, runs on as if alone. It knows nothing of who asks.

mod attach;
mod feed;
mod pump;
mod stream;

pub use attach::{AttachedInput, AttachedOutput, Attachment};
pub use stream::{Input, Output};

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ingot_linux::{pipe, pty};
use tokio::sync::{mpsc, oneshot, watch};

use crate::container::{self, Io, Stream};
use crate::context::Context;
use crate::logs::LogTarget;
use crate::logs::writer::LogWriter;
use crate::pid1::Pid1;

use attach::Stdin;
use pump::{Command, Pump, Source};

/// Room in the pipe between a terminal and its log: a few times what a terminal holds.
const TERMINAL_PIPE_BYTES: usize = 64 * 1024;

/// Orders a pump may be behind.
const COMMANDS_MAX: usize = 16;

/// How a container's descriptors are to be used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IoOptions {
    /// Standard input is closed when the first that was attached to it leaves.
    pub(crate) stdin_once: bool,
}

/// The descriptors of a running container. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct ContainerIo {
    commands: mpsc::Sender<Command>,
    stdin: Option<Arc<Stdin>>,
    terminal: Option<Arc<OwnedFd>>,
}

impl ContainerIo {
    /// Begins to move the output of the container `id`. `written` is touched after each write to the log.
    ///
    /// # Errors
    /// When the log cannot be opened, or a descriptor cannot be used.
    pub(crate) async fn start(
        context: &Context,
        id: &str,
        ours: Io,
        target: LogTarget,
        options: IoOptions,
        written: Option<Arc<watch::Sender<u64>>>,
    ) -> io::Result<Self> {
        let through = match ours {
            Io::Terminal(_) => Some(make_through(&context.pid1, id).await?),
            Io::Pipes { .. } => None,
        };
        let writer = LogWriter::open(target)?;
        Self::begin(Some(&context.pid1), id, Ends { ours, through }, writer, options, written)
    }

    /// Takes over from a former agent; `None` when PID 1 does not have the descriptors.
    ///
    /// # Errors
    /// As [`ContainerIo::start`].
    pub(crate) async fn adopt(
        context: &Context,
        id: &str,
        target: LogTarget,
        options: IoOptions,
        written: Option<Arc<watch::Sender<u64>>>,
    ) -> io::Result<Option<Self>> {
        let Some(ends) = recall(&context.pid1, id).await? else { return Ok(None) };
        let writer = LogWriter::open(target)?;
        Self::begin(Some(&context.pid1), id, ends, writer, options, written).map(Some)
    }

    /// `pid1` keeps a copy of standard input.
    fn begin(
        pid1: Option<&Pid1>,
        id: &str,
        ends: Ends,
        writer: LogWriter,
        options: IoOptions,
        written: Option<Arc<watch::Sender<u64>>>,
    ) -> io::Result<Self> {
        let stdin = |input: OwnedFd, is_pipe: bool| -> io::Result<Arc<Stdin>> {
            let kept = pid1.cloned().zip(container::pipe_name(id, Stream::Stdin).ok());
            // A terminal has no end that could be closed: its programs would lose it, too.
            let once = options.stdin_once && is_pipe;
            Ok(Arc::new(Stdin::new(input, once, kept)))
        };
        let (stdin, terminal, sources) = match ends.ours {
            Io::Pipes { stdin: input, stdout, stderr } => {
                let input = input.map(|input| stdin(input, true)).transpose()?;
                (input, None, vec![Source::pipe(stdout)?, Source::error_pipe(stderr)?])
            }
            Io::Terminal(master) => {
                rustix::io::ioctl_fionbio(&master, true)?;
                let through = ends.through.ok_or(io::ErrorKind::InvalidInput)?;
                let source = Source::terminal(master.try_clone()?, through)?;
                let input = stdin(master.try_clone()?, false)?;
                (Some(input), Some(Arc::new(master)), vec![source])
            }
        };
        let (commands, orders) = mpsc::channel(COMMANDS_MAX);
        tokio::spawn(Pump::new(writer, sources, written, orders).run());
        Ok(Self { commands, stdin, terminal })
    }

    /// The container has ended: moves what its pipes still hold and stops; everybody attached sees the end. Returns how many
    /// bytes of its log the disk refused.
    pub(crate) async fn finish(&self) -> u64 {
        let (done, dropped) = oneshot::channel();
        // Fails only when it was finished before.
        let _ = self.commands.send(Command::Finish(done)).await;
        dropped.await.unwrap_or(0)
    }

    /// The log file was renamed: goes on in a new one of the same path.
    ///
    /// # Errors
    /// When the new file cannot be opened; then the old one is written on. `BrokenPipe` when the container has ended.
    pub(crate) async fn reopen_log(&self) -> io::Result<()> {
        let ended = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (done, result) = oneshot::channel();
        self.commands.send(Command::Reopen(done)).await.map_err(|_| ended())?;
        result.await.map_err(|_| ended())?
    }

    /// Listens, from now on, to what the container says, and may write to what it reads.
    ///
    /// # Errors
    /// `BrokenPipe` when the container has ended.
    pub async fn attach(&self) -> io::Result<Attachment> {
        let ended = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (attachment, feeds) = attach::attach(self.stdin.clone(), self.terminal.clone());
        let (done, attached) = oneshot::channel();
        self.commands.send(Command::Attach(feeds, done)).await.map_err(|_| ended())?;
        attached.await.map_err(|_| ended())?;
        Ok(attachment)
    }

    /// Says how large the container's terminal is. One without a terminal ignores it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |master| pty::set_size(master, columns, rows))
    }

    /// Whether it has a terminal.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }
}

/// Our ends, and with a terminal the pipe through which its output goes: the kernel moves bytes from a pipe into a file,
/// but not from a terminal, and a byte in our memory would be lost when we are killed.
struct Ends {
    ours: Io,
    through: Option<(OwnedFd, OwnedFd)>,
}

async fn make_through(pid1: &Pid1, id: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe::with_size(TERMINAL_PIPE_BYTES)?;
    let name = container::pipe_name(id, Stream::Stdout)?;
    pid1.store_fd(name, read.try_clone()?).await.map_err(io::Error::other)?;
    Ok((read, write))
}

async fn recall(pid1: &Pid1, id: &str) -> io::Result<Option<Ends>> {
    let get = async |stream| -> io::Result<Option<OwnedFd>> {
        let name = container::pipe_name(id, stream)?;
        pid1.get_fd(name).await.map_err(io::Error::other)
    };
    if let Some(master) = get(Stream::Terminal).await? {
        let through = match get(Stream::Stdout).await? {
            Some(read) => {
                let write = pipe::writer_of(&read)?;
                (read, write)
            }
            // The former agent was killed between the two.
            None => make_through(pid1, id).await?,
        };
        return Ok(Some(Ends { ours: Io::Terminal(master), through: Some(through) }));
    }
    let (stdout, stderr) = (get(Stream::Stdout).await?, get(Stream::Stderr).await?);
    let stdin = get(Stream::Stdin).await?;
    let ours = stdout.zip(stderr).map(|(stdout, stderr)| Io::Pipes { stdin, stdout, stderr });
    Ok(ours.map(|ours| Ends { ours, through: None }))
}

#[cfg(test)]
mod tests;
