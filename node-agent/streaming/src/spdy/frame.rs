//! Frames of SPDY/3.1 from bytes. No I/O, no state of streams, no panic on anything.

use super::headers::{Headers, Inflater};
use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

/// Length of every frame's head.
const HEAD: usize = 8;

/// Longest control frame that is taken. A SYN_STREAM of Kubernetes has about 100 bytes; data frames have no limit, because they are
/// passed on in pieces.
const MAX_CONTROL: usize = 16 * 1024;

/// Longest piece of a data frame, which bounds what one frame holds in memory.
const MAX_PIECE: usize = 16 * 1024;

const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;

/// What the peer said. Frames that mean nothing to a server are taken apart only as far as the state of the header compression needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A new stream. `fin`: the peer will send nothing on it.
    Open { stream: u32, fin: bool, headers: Headers },
    /// A piece of a stream's data. `fin`: the last.
    Data { stream: u32, bytes: Bytes, fin: bool },
    /// The peer has thrown a stream away.
    Reset { stream: u32 },
    /// The peer ended a stream without data.
    End { stream: u32 },
    /// To be sent back as it is.
    Ping { id: u32 },
    /// The peer will open no more streams.
    GoAway,
    /// A frame that asks for nothing: SETTINGS, WINDOW_UPDATE, SYN_REPLY, unknown ones.
    Ignored,
}

/// Bytes that are not SPDY/3.1, or more than a connection of Kubernetes ever needs. The connection cannot go on.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    #[error("control frame of SPDY version {0}, only 3 is known")]
    Version(u16),
    #[error("{0} is too large")]
    TooLarge(&'static str),
    #[error("{0} frame has the wrong length")]
    Length(&'static str),
    #[error("header block cannot be decompressed")]
    Compression,
    #[error("header block makes no sense")]
    Headers,
}

/// Turns bytes into frames, with the state of the connection's header compression.
pub(crate) struct Decoder {
    inflater: Inflater,
    data: Option<Data>,
}

/// A data frame that has not arrived in full.
struct Data {
    stream: u32,
    left: usize,
    fin: bool,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { inflater: Inflater::new(), data: None }
    }

    /// Takes the next frame from the front of `input`, or `None` when more bytes are needed.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if let Some(data) = self.data.take() {
            return Ok(self.piece(data, input));
        }
        let Some(head) = input.first_chunk::<HEAD>() else { return Ok(None) };
        let [a, b, c, d, flags, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes([0, length[0], length[1], length[2]]))
            .unwrap_or(usize::MAX);
        if a & 0x80 == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            input.advance(HEAD);
            let data = Data { stream, left: length, fin: flags & FLAG_FIN != 0 };
            return Ok(self.piece(data, input));
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(FrameError::TooLarge("control frame"));
        }
        if input.len() < HEAD + length {
            return Ok(None);
        }
        input.advance(HEAD);
        let body = input.split_to(length);
        self.control(u16::from_be_bytes([c, d]), flags & FLAG_FIN != 0, &body).map(Some)
    }

    fn piece(&mut self, mut data: Data, input: &mut BytesMut) -> Option<Frame> {
        if data.left > 0 && input.is_empty() {
            self.data = Some(data);
            return None;
        }
        let bytes = input.split_to(data.left.min(input.len()).min(MAX_PIECE)).freeze();
        data.left -= bytes.len();
        let (stream, fin) = (data.stream, data.fin && data.left == 0);
        if data.left > 0 {
            self.data = Some(data);
        }
        Some(Frame::Data { stream, bytes, fin })
    }

    fn control(&mut self, kind: u16, fin: bool, body: &[u8]) -> Result<Frame, FrameError> {
        match kind {
            1 => {
                let (stream, rest) = stream(body, "SYN_STREAM")?;
                // Associated stream, priority and slot: nothing to a server that pushes nothing.
                let block = rest.get(6..).ok_or(FrameError::Length("SYN_STREAM"))?;
                let headers = self.inflater.block(block)?;
                Ok(Frame::Open { stream, fin, headers })
            }
            2 => {
                let (_, block) = stream(body, "SYN_REPLY")?;
                self.inflater.block(block)?;
                Ok(Frame::Ignored)
            }
            3 => Ok(Frame::Reset { stream: stream(body, "RST_STREAM")?.0 }),
            6 => {
                let id = body.first_chunk().ok_or(FrameError::Length("PING"))?;
                Ok(Frame::Ping { id: u32::from_be_bytes(*id) })
            }
            7 => Ok(Frame::GoAway),
            8 => {
                let (stream, block) = stream(body, "HEADERS")?;
                self.inflater.block(block)?;
                Ok(if fin { Frame::End { stream } } else { Frame::Ignored })
            }
            _ => Ok(Frame::Ignored),
        }
    }
}

/// The stream's number at the front of a control frame.
fn stream<'a>(body: &'a [u8], frame: &'static str) -> Result<(u32, &'a [u8]), FrameError> {
    let (stream, rest) = body.split_first_chunk().ok_or(FrameError::Length(frame))?;
    Ok((u32::from_be_bytes(*stream) & 0x7fff_ffff, rest))
}

#[cfg(test)]
mod tests;
