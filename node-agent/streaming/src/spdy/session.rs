//! One SPDY connection: which streams are open, and what arrives for them.

use super::encode::Encoder;
use super::frame::{Decoder, Frame, FrameError};
use super::headers::Headers;
use crate::hangup::Hangup;
use crate::link::{Activity, Channel, Gone, Link, Out, QUEUE, drive};
use bytes::BytesMut;
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

/// Answers that may wait for the socket. A peer that asks for more without reading them gets no more pongs, and opens no more streams.
const CONTROL_QUEUE: usize = 1024;

/// The peer learns that its bytes were taken in steps of this many, half of what SPDY lets it send at first.
const WINDOW_STEP: u32 = 32 * 1024;

/// How much is read at once.
const READ: usize = 16 * 1024;

/// How much is written at once, unless one piece is longer.
const WRITE: usize = 32 * 1024;

/// A stream that the peer opened. Dropping the pipe ends it.
pub(crate) struct Opened {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    pub(crate) pipe: DuplexStream,
    queue: mpsc::Sender<Out>,
    output: AbortHandle,
}

impl Opened {
    /// Throws the stream away.
    pub(crate) async fn reset(self) {
        // So that dropping the pipe says nothing.
        self.output.abort();
        let (pipe, reset) = self.split();
        drop(pipe);
        reset.await;
    }

    /// The bytes, and what throws the stream away.
    pub(crate) fn split(self) -> (DuplexStream, impl Future<Output = ()> + Send) {
        let Self { id, pipe, queue, .. } = self;
        let reset = async move {
            // Fails when the connection is over.
            let _over = queue.send(Out::Reset { channel: id }).await;
        };
        (pipe, reset)
    }
}

/// A connection.
pub(crate) struct Session {
    opened: mpsc::Receiver<Opened>,
    seal: oneshot::Sender<()>,
    link: Link,
}

impl Session {
    /// Serves SPDY on a connection, with at most `max_streams` open at a time.
    pub(crate) fn start<C>(connection: C, hangup: Hangup, max_streams: usize) -> Self
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (from, to) = tokio::io::split(connection);
        let (queue, queued) = mpsc::channel(QUEUE);
        let (control, controls) = mpsc::channel(CONTROL_QUEUE);
        let (opened_tx, opened) = mpsc::channel(max_streams);
        let (seal, sealed) = oneshot::channel();
        let link = Link::spawn(async move {
            let activity = Activity::new();
            let streams = Streams {
                open: HashMap::new(),
                pumps: JoinSet::new(),
                last: 0,
                max: max_streams,
                accept: Some((opened_tx, queue)),
                control,
                owed: 0,
                hangup,
            };
            let reader = read(from, streams, sealed, &activity);
            drive(reader, write(to, controls, queued, &activity), &activity).await;
        });
        Self { opened, seal, link }
    }

    /// The next stream, or `None` when the connection is over. Cancel safe.
    pub(crate) async fn opened(&mut self) -> Option<Opened> {
        self.opened.recv().await
    }

    /// Takes no more streams. The connection ends by itself once all that are open have ended.
    pub(crate) fn seal(self) -> Link {
        let _over = self.seal.send(());
        self.link
    }
}

/// All streams of a connection.
struct Streams {
    open: HashMap<u32, Channel>,
    pumps: JoinSet<()>,
    /// Highest number the peer has used.
    last: u32,
    max: usize,
    /// Where new streams and their output go, until there may be no more.
    accept: Option<(mpsc::Sender<Opened>, mpsc::Sender<Out>)>,
    control: mpsc::Sender<Out>,
    /// Bytes taken that the peer was not told of.
    owed: u32,
    hangup: Hangup,
}

/// Reads frames until the peer has gone or speaks nonsense.
async fn read(
    mut from: impl AsyncRead + Unpin,
    mut streams: Streams,
    mut sealed: oneshot::Receiver<()>,
    activity: &Activity,
) {
    let mut decoder = Decoder::new();
    let mut input = BytesMut::new();
    loop {
        match take_frames(&mut decoder, &mut input, &mut streams).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::debug!(%error, "closing a SPDY connection"),
        }
        input.reserve(READ);
        tokio::select! {
            // Reading into a buffer loses nothing when it is cancelled.
            count = from.read_buf(&mut input) => match count {
                Ok(1..) => activity.touch(),
                Ok(0) | Err(_) => return,
            },
            _ = &mut sealed, if streams.accept.is_some() => streams.accept = None,
        }
    }
}

/// Whether to go on.
async fn take_frames(
    decoder: &mut Decoder,
    input: &mut BytesMut,
    streams: &mut Streams,
) -> Result<bool, FrameError> {
    while let Some(frame) = decoder.decode(input)? {
        if streams.take(frame).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Streams {
    async fn take(&mut self, frame: Frame) -> Result<(), Gone> {
        match frame {
            Frame::Open { stream, fin, headers } => {
                self.open(stream, headers)?;
                if fin {
                    self.end(stream).await;
                }
            }
            Frame::Data { stream, bytes, fin } => {
                if let Some(channel) = self.open.get_mut(&stream) {
                    channel.feed(&bytes, &self.hangup).await?;
                } else if stream > self.last {
                    self.say(Out::Reset { channel: stream });
                }
                self.taken(stream, bytes.len());
                if fin {
                    self.end(stream).await;
                }
            }
            Frame::End { stream } => self.end(stream).await,
            Frame::Reset { stream } => {
                if let Some(channel) = self.open.remove(&stream) {
                    channel.reset();
                }
            }
            Frame::Ping { id } => self.say(Out::Pong { id }),
            // The peer closes the connection when it is done; until then its streams go on.
            Frame::GoAway => self.accept = None,
            Frame::Ignored => {}
        }
        Ok(())
    }

    fn open(&mut self, number: u32, headers: Headers) -> Result<(), Gone> {
        // A client's streams have odd numbers that rise.
        if number <= self.last || number.is_multiple_of(2) {
            self.say(Out::Reset { channel: number });
            return Ok(());
        }
        self.last = number;
        while self.pumps.try_join_next().is_some() {}
        self.open.retain(|_, channel| !channel.is_over());
        let room = self.open.len() < self.max;
        let Some((opened, queue)) = self.accept.as_ref().filter(|_| room) else {
            self.say(Out::Reset { channel: number });
            return Ok(());
        };
        // First the answer: nothing of the stream may overtake it. A peer that lets so many answers wait has gone, or should.
        self.control.try_send(Out::Reply { channel: number }).map_err(|_| Gone)?;
        let (channel, pipe) = Channel::open(number, &mut self.pumps, queue.clone());
        let (queue, output) = (queue.clone(), channel.output());
        self.open.insert(number, channel);
        // As many fit as may be open; the taker has gone when this fails, and the stream ends at once.
        let _over = opened.try_send(Opened { id: number, headers, pipe, queue, output });
        Ok(())
    }

    async fn end(&mut self, stream: u32) {
        if let Some(channel) = self.open.get_mut(&stream) {
            channel.end().await;
        }
    }

    /// Gives the peer room for as much as was taken.
    fn taken(&mut self, stream: u32, bytes: usize) {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.owed >= WINDOW_STEP {
            // For the stream that brought it over the step, and for the connection. Streams that send little never use up theirs.
            self.say(Out::Window { channel: stream, bytes: self.owed });
            self.say(Out::Window { channel: 0, bytes: self.owed });
            self.owed = 0;
        }
    }

    /// Answers, unless the peer lets too many answers wait.
    fn say(&self, out: Out) {
        let _full = self.control.try_send(out);
    }
}

/// Sends all that is queued, answers first. True when all streams have ended and the peer was told.
async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut controls: mpsc::Receiver<Out>,
    mut queued: mpsc::Receiver<Out>,
    activity: &Activity,
) -> bool {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    loop {
        let next = tokio::select! {
            biased;
            Some(out) = controls.recv() => Some(out),
            out = queued.recv() => out,
        };
        let Some(out) = next else { break };
        encoder.encode(&out, &mut bytes);
        while bytes.len() < WRITE
            && let Ok(out) = controls.try_recv().or_else(|_| queued.try_recv())
        {
            encoder.encode(&out, &mut bytes);
        }
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            return false;
        }
        activity.touch();
        bytes.clear();
    }
    to.shutdown().await.is_ok()
}
