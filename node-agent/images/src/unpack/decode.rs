//! Streams between threads: what arrives, hashed and counted; what it decompresses to; and that again for the next
//! thread. Compression is told by its first bytes, since media types are often wrong.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender};

use flate2::bufread::MultiGzDecoder;
use hyper::body::{Buf as _, Bytes};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{Chunk, Piece, UnpackError};
use crate::digest::Digest;

/// Decompressed bytes handed on at once.
const CHUNK: usize = 128 << 10;
/// Memory that a zstd stream may ask for. `zstd -19` asks for 8 MiB; the format would allow terabytes.
const WINDOW_MAX: u64 = 32 << 20;

/// A layer as it arrives.
pub(super) struct Arrived {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    hash: Sha256,
    length: u64,
    expected: u64,
    ended: bool,
    error: Option<UnpackError>,
}

impl Arrived {
    pub(super) fn new(pieces: mpsc::Receiver<Piece>, expected: u64) -> Self {
        Self {
            pieces,
            current: Bytes::new(),
            hash: Sha256::new(),
            length: 0,
            expected,
            ended: false,
            error: None,
        }
    }

    /// Why the stream itself failed, which explains any trouble of the decoder above.
    pub(super) fn error(&mut self) -> Option<UnpackError> {
        self.error.take()
    }

    /// Takes what the decoder did not want.
    pub(super) fn drain(&mut self) -> Result<(), UnpackError> {
        loop {
            match self.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(buffer) => {
                    let length = buffer.len();
                    self.consume(length);
                }
                Err(_) => return Err(self.error().unwrap_or(UnpackError::Stopped)),
            }
        }
    }

    /// Digest and length of everything.
    pub(super) fn finish(self) -> (Digest, u64) {
        (Digest::from_hash(self.hash.finalize().into()), self.length)
    }
}

impl BufRead for Arrived {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => {
                    self.length += bytes.len() as u64;
                    if self.length > self.expected {
                        let (expected, found) = (self.expected, self.length);
                        self.error = Some(UnpackError::Length { expected, found });
                        return Err(io::Error::other("too long"));
                    }
                    self.hash.update(&bytes);
                    self.current = bytes;
                }
                Some(Piece::End) => self.ended = true,
                None => {
                    self.error = Some(UnpackError::Stopped);
                    return Err(io::Error::other("stopped"));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        self.current.advance(length);
    }
}

impl Read for Arrived {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

/// The first bytes again, then the rest.
type Source<'a> = io::Chain<io::Cursor<Vec<u8>>, &'a mut Arrived>;

/// A layer, decompressed.
pub(super) enum Decoder<'a> {
    Plain(Source<'a>),
    Gzip(Box<MultiGzDecoder<Source<'a>>>),
    Zstd(Box<Zstd<Source<'a>>>),
}

impl<'a> Decoder<'a> {
    pub(super) fn new(arrived: &'a mut Arrived) -> io::Result<Self> {
        let mut first = Vec::new();
        arrived.by_ref().take(4).read_to_end(&mut first)?;
        let kind = first.clone();
        let source = Read::chain(io::Cursor::new(first), arrived);
        Ok(match kind[..] {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(source))),
            // A frame, or a frame to be read over (0x184D2A50 to 0x184D2A5F).
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                Self::Zstd(Box::new(Zstd::new(source)))
            }
            _ => Self::Plain(source),
        })
    }

    /// The next bytes, in the room of `chunk`; empty at the end.
    pub(super) fn chunk(&mut self, mut chunk: Vec<u8>) -> io::Result<Vec<u8>> {
        chunk.resize(CHUNK, 0);
        let mut filled = 0;
        while filled < CHUNK {
            let rest = &mut chunk[filled..];
            let length = match self {
                Self::Plain(source) => source.read(rest),
                Self::Gzip(source) => source.read(rest),
                Self::Zstd(source) => source.read(rest),
            };
            match length {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        chunk.truncate(filled);
        Ok(chunk)
    }

    /// Bytes that arrived so far.
    pub(super) fn arrived(&self) -> u64 {
        let source = match self {
            Self::Plain(source) => source,
            Self::Gzip(source) => source.get_ref(),
            Self::Zstd(source) => &source.source,
        };
        source.get_ref().1.length
    }
}

/// All frames of a zstd stream; the library's own reader ends after the first.
pub(super) struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_MAX);
        Self { source, decoder, in_frame: false }
    }

    /// Begins the next frame; false at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                self.in_frame = self.begin()?;
                if !self.in_frame {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let length = self.decoder.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            self.in_frame = false;
        }
    }
}

/// An archive as it comes from the first thread, hashed.
pub(super) struct Chunks {
    chunks: Receiver<Chunk>,
    /// Takes back what was read: memory of this size comes fresh from the kernel each time, which costs more than filling it.
    spent: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    hash: Sha256,
    ended: bool,
}

impl Chunks {
    pub(super) fn new(chunks: Receiver<Chunk>, spent: Sender<Vec<u8>>) -> Self {
        Self { chunks, spent, current: Vec::new(), at: 0, hash: Sha256::new(), ended: false }
    }

    /// Digest of everything, what nobody read included.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(Digest::from_hash(self.hash.finalize().into()));
            }
            self.consume(length);
        }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() && !self.ended {
            match self.chunks.recv() {
                Ok(Chunk::Data(data)) => {
                    self.hash.update(&data);
                    // Nobody wants it any more once all is decompressed.
                    let _ = self.spent.send(std::mem::replace(&mut self.current, data));
                    self.at = 0;
                }
                Ok(Chunk::End) => self.ended = true,
                // The first thread knows why, and its error is the one that is told.
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}
