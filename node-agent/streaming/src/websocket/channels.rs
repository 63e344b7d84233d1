//! Channels over a WebSocket: `channel.k8s.io` and what became of it. The first byte of a message says whose it is.

use crate::hangup::Hangup;
use crate::link::{Activity, Channel, Gone, Link, Out, QUEUE, drive};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// In place of a channel's number since v5: the next byte names a channel that the peer has closed.
const CLOSE: u8 = 255;

/// How channels are put into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A byte and the data. `close`: a channel can be half-closed (v5).
    Binary { close: bool },
    /// A digit and the data in base64, in text messages.
    Base64,
}

/// Which channels there are, by number: whether the peer may send on each. Those that are `None` are ignored.
pub(crate) type Layout<'a> = &'a [Option<Direction>];

/// Who sends on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The peer, or both.
    In,
    /// Only the server.
    Out,
}

/// Serves channels on an open WebSocket. Returns the backend's ends, in the layout's order. The connection ends by itself once all have ended.
///
/// `greet` sends an empty message on this channel first: the older protocols' clients wait for one.
pub(crate) fn start<C>(
    socket: WebSocketStream<C>,
    hangup: Hangup,
    encoding: Encoding,
    layout: Layout<'_>,
    greet: Option<u8>,
) -> (Vec<Option<DuplexStream>>, Link)
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (queue, queued) = mpsc::channel(QUEUE);
    let mut pumps = JoinSet::new();
    let (mut channels, mut pipes) = (Vec::new(), Vec::new());
    for (number, direction) in (0..).zip(layout) {
        let opened = direction.map(|way| (way, Channel::open(number, &mut pumps, queue.clone())));
        let (channel, pipe) = match opened {
            Some((Direction::In, (channel, pipe))) => (Some(channel), Some(pipe)),
            Some((Direction::Out, (mut channel, pipe))) => {
                channel.ignore();
                (Some(channel), Some(pipe))
            }
            None => (None, None),
        };
        channels.push(channel);
        pipes.push(pipe);
    }
    let link = Link::spawn(async move {
        let _pumps = pumps;
        let activity = Activity::new();
        let (to, from) = socket.split();
        let reader = read(from, Inbox { channels, encoding, hangup }, &activity);
        drive(reader, write(to, queued, encoding, greet, &activity), &activity).await;
    });
    (pipes, link)
}

/// Where messages go.
struct Inbox {
    channels: Vec<Option<Channel>>,
    encoding: Encoding,
    hangup: Hangup,
}

async fn read<C>(mut from: SplitStream<WebSocketStream<C>>, mut inbox: Inbox, activity: &Activity)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = from.next().await {
        activity.touch();
        let taken = match message {
            Ok(Message::Binary(bytes)) => inbox.take(&bytes).await,
            Ok(Message::Text(text)) => inbox.take(text.as_bytes()).await,
            // The library answers pings and closes.
            Ok(_) => Ok(()),
            Err(error) => return tracing::debug!(%error, "closing a WebSocket connection"),
        };
        if taken.is_err() {
            return;
        }
    }
}

impl Inbox {
    /// Takes one message. What no channel wants is thrown away, as Kubernetes' own servers do.
    async fn take(&mut self, message: &[u8]) -> Result<(), Gone> {
        let Some((&first, data)) = message.split_first() else { return Ok(()) };
        match self.encoding {
            Encoding::Binary { close: true } if first == CLOSE => {
                if let [number] = data
                    && let Some(channel) = self.channel(*number)
                {
                    channel.end().await;
                }
                Ok(())
            }
            Encoding::Binary { .. } => self.feed(first, data).await,
            Encoding::Base64 => match STANDARD.decode(data) {
                Ok(data) => self.feed(first.wrapping_sub(b'0'), &data).await,
                Err(_) => Ok(()),
            },
        }
    }

    async fn feed(&mut self, number: u8, data: &[u8]) -> Result<(), Gone> {
        let Some(channel) = self.channels.get_mut(usize::from(number)).and_then(Option::as_mut)
        else {
            return Ok(());
        };
        channel.feed(data, &self.hangup).await
    }

    fn channel(&mut self, number: u8) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number)).and_then(Option::as_mut)
    }
}

/// Sends all that is queued, then closes. True when all was sent.
async fn write<C>(
    mut to: SplitSink<WebSocketStream<C>, Message>,
    mut queued: mpsc::Receiver<Out>,
    encoding: Encoding,
    greet: Option<u8>,
    activity: &Activity,
) -> bool
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let greeting = greet.map(|number| encode(encoding, number, &[]));
    if let Some(greeting) = greeting
        && to.send(greeting).await.is_err()
    {
        return false;
    }
    while let Some(out) = queued.recv().await {
        // The end of a channel has no message; the client sees that of the connection.
        let Out::Data { channel, bytes } = out else { continue };
        let number = u8::try_from(channel).unwrap_or(CLOSE);
        if to.send(encode(encoding, number, &bytes)).await.is_err() {
            return false;
        }
        activity.touch();
    }
    to.send(super::goodbye()).await.is_ok()
}

fn encode(encoding: Encoding, number: u8, data: &[u8]) -> Message {
    match encoding {
        Encoding::Binary { .. } => {
            let mut message = BytesMut::with_capacity(data.len() + 1);
            message.put_u8(number);
            message.put_slice(data);
            Message::Binary(message.freeze())
        }
        Encoding::Base64 => {
            let mut message = char::from(number.wrapping_add(b'0')).to_string();
            STANDARD.encode_string(data, &mut message);
            Message::text(message)
        }
    }
}
