//! The two ends of an archive on its way: blocking on this side, a bounded channel of pieces on the other.

use std::io::{self, Read, Write};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Size of a piece that is sent.
const PIECE: usize = 64 * 1024;

/// A caller who neither sends nor takes a piece for so long is given up: its connection may live for ever, and what it
/// keeps busy here (a thread, room on the disk) is not its own. A person who is asked something in a pipe answers sooner.
const STALL_MAX: Duration =
    if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(300) };

/// Waits on a thread that may block, but not for ever.
fn within<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    let limited = async { tokio::time::timeout(STALL_MAX, work).await };
    runtime.block_on(limited).map_err(|_| io::ErrorKind::TimedOut.into())
}

/// Reads pieces that come through a channel. The channel's end without an explicit end of the archive is an error.
pub(crate) struct Reader {
    pieces: mpsc::Receiver<Option<Vec<u8>>>,
    piece: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl Reader {
    /// `None` in the channel is the end of the archive.
    pub(crate) fn new(pieces: mpsc::Receiver<Option<Vec<u8>>>) -> Self {
        Self { pieces, piece: Vec::new(), taken: 0, ended: false }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.piece.len() && !self.ended {
            match within(self.pieces.recv())? {
                Some(Some(piece)) => (self.piece, self.taken) = (piece, 0),
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let rest = self.piece.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.taken += count;
        Ok(count)
    }
}

/// Writes into a channel, in pieces of a fair size.
pub(crate) struct Writer {
    pieces: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(pieces: mpsc::Sender<Vec<u8>>) -> Self {
        Self { pieces, piece: Vec::with_capacity(PIECE) }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let count = bytes.len().min(room);
        self.piece.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        within(self.pieces.send(piece))?.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
