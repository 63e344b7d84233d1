//! What both protocols share: one connection with many channels, each a bounded pipe to the backend.
//!
//! One task does the reading and the writing of a connection. A channel's input waits in its pipe for the backend, and when that is full nothing
//! more is read from the connection; its output waits in its pipe, in a short queue, and in the socket for the peer. Neither direction ever
//! waits for the other.

use crate::hangup::Hangup;
use bytes::{Bytes, BytesMut};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;

/// How much of one channel may wait in each direction. Two pages of a terminal's worth would do for people; copying files goes at the
/// memory's speed with this much.
const PIPE: usize = 16 * 1024;

/// How many pieces of output of all channels together may wait for the socket.
pub(crate) const QUEUE: usize = 4;

/// What a kubelet allows by default: nothing sent either way for this long ends the connection.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);

/// How long the peer gets to close its end after all was sent. Closing first could throw away what it has not read.
const LINGER: Duration = Duration::from_secs(10);

/// Something to send.
#[derive(Debug)]
pub(crate) enum Out {
    /// Bytes of a channel.
    Data { channel: u32, bytes: Bytes },
    /// A channel has nothing more to say.
    End { channel: u32 },
    /// A channel is given up.
    Reset { channel: u32 },
    /// A channel was accepted.
    Reply { channel: u32 },
    /// A ping, sent back.
    Pong { id: u32 },
    /// The peer may send this much more on a channel, or on all of them together (0).
    Window { channel: u32, bytes: u32 },
}

/// The peer has gone; nothing it would have sent matters.
#[derive(Debug)]
pub(crate) struct Gone;

/// The connection's end of a channel.
pub(crate) struct Channel {
    input: Option<WriteHalf<DuplexStream>>,
    output: AbortHandle,
}

impl Channel {
    /// A channel, whose output `pumps` sends to `queue`, and the backend's end of it.
    pub(crate) fn open(
        number: u32,
        pumps: &mut JoinSet<()>,
        queue: mpsc::Sender<Out>,
    ) -> (Self, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let (from, input) = tokio::io::split(ours);
        let output = pumps.spawn(pump(from, number, queue));
        (Self { input: Some(input), output }, theirs)
    }

    /// Hands bytes to the backend, waiting until it takes them. What a backend does not want is thrown away.
    pub(crate) async fn feed(&mut self, bytes: &[u8], hangup: &Hangup) -> Result<(), Gone> {
        let Some(input) = &mut self.input else { return Ok(()) };
        let fed = tokio::select! {
            // In this order, so that nothing is watched while there is room.
            biased;
            fed = input.write_all(bytes) => fed,
            () = hangup.wait() => return Err(Gone),
        };
        if fed.is_err() {
            self.input = None;
        }
        Ok(())
    }

    /// Throws away whatever the peer sends.
    pub(crate) fn ignore(&mut self) {
        self.input = None;
    }

    /// The peer will send no more.
    pub(crate) async fn end(&mut self) {
        if let Some(mut input) = self.input.take() {
            // Fails only when the backend has closed its end, and then there is nobody to tell.
            let _closed = input.shutdown().await;
        }
    }

    /// Nothing can come from it any more, either way.
    pub(crate) fn is_over(&self) -> bool {
        self.input.is_none() && self.output.is_finished()
    }

    /// What sends the backend's output; aborted, nothing more of it is sent.
    pub(crate) fn output(&self) -> AbortHandle {
        self.output.clone()
    }

    /// Gives it up: the backend reads the end and its writes fail.
    pub(crate) fn reset(mut self) {
        self.input = None;
        self.output.abort();
    }
}

/// Sends what the backend writes to a channel, until it ends it or the connection ends.
async fn pump(mut from: ReadHalf<DuplexStream>, channel: u32, queue: mpsc::Sender<Out>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIPE);
        let out = match from.read_buf(&mut buffer).await {
            Ok(1..) => Out::Data { channel, bytes: buffer.split().freeze() },
            Ok(0) | Err(_) => Out::End { channel },
        };
        let ended = matches!(out, Out::End { .. });
        if queue.send(out).await.is_err() || ended {
            return;
        }
    }
}

/// When something was last sent or received.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<Instant>);

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Now.
    pub(crate) fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns when the idle timeout has passed without any.
    pub(crate) async fn idle(&self) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= IDLE {
                return;
            }
            tokio::time::sleep_until(last + IDLE).await;
        }
    }
}

/// Runs both halves of a connection until the peer has gone, it was idle for too long, or all was sent and the peer knows.
///
/// `writer` ends with true once all channels have ended and all was sent.
pub(crate) async fn drive(
    reader: impl Future<Output = ()>,
    writer: impl Future<Output = bool>,
    activity: &Activity,
) {
    let (mut reader, mut writer) = (std::pin::pin!(reader), std::pin::pin!(writer));
    let sent = tokio::select! {
        () = &mut reader => false,
        sent = &mut writer => sent,
        () = activity.idle() => false,
    };
    if sent {
        let _late = tokio::time::timeout(LINGER, reader).await;
    }
}

/// The task of a connection; the connection ends with it.
pub(crate) struct Link(JoinHandle<()>);

impl Link {
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }

    /// Returns when the connection is over: the peer has gone, or it is finished. Cancel safe.
    pub(crate) async fn over(&mut self) {
        if !self.0.is_finished() {
            let _aborted = (&mut self.0).await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.0.abort();
    }
}
