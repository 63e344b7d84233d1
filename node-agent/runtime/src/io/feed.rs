//! A bounded queue of bytes from the pump to one reader. Who reads too slowly is cut off, and told so: the container must
//! not wait, and a gap in the middle would go unnoticed.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

/// Bytes a reader may be behind: four times what a pipe of a container holds.
const BEHIND_MAX: usize = 4 << 20;

#[derive(Default)]
struct State {
    chunks: VecDeque<Arc<[u8]>>,
    /// Bytes of the first chunk that were read.
    read: usize,
    /// Bytes in all chunks.
    queued: usize,
    /// Nothing will follow.
    ended: bool,
    too_slow: bool,
    /// The reader is gone.
    closed: bool,
    waker: Option<Waker>,
}

/// The writing end.
pub(super) struct Feed(Arc<Mutex<State>>);

/// The reading end.
pub(super) struct Reader(Arc<Mutex<State>>);

/// Both ends of a new queue.
pub(super) fn feed() -> (Feed, Reader) {
    let state = Arc::default();
    (Feed(Arc::clone(&state)), Reader(state))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    /// Gives the reader more. False when it is gone or was cut off.
    pub(super) fn push(&self, bytes: &Arc<[u8]>) -> bool {
        let mut state = lock(&self.0);
        if state.closed || state.too_slow {
            return false;
        }
        if state.queued.saturating_add(bytes.len()) > BEHIND_MAX {
            state.too_slow = true;
            state.chunks = VecDeque::new();
        } else {
            state.queued += bytes.len();
            state.chunks.push_back(Arc::clone(bytes));
        }
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        !state.too_slow
    }

    /// Whether somebody still reads.
    pub(super) fn is_read(&self) -> bool {
        !lock(&self.0).closed
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.ended = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Reader {
    /// As [`tokio::io::AsyncRead::poll_read`].
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        if state.too_slow {
            return Poll::Ready(Err(io::Error::other(
                "cut off: the output was not read fast enough",
            )));
        }
        let Some(first) = state.chunks.front().cloned() else {
            if state.ended {
                return Poll::Ready(Ok(()));
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let rest = first.get(state.read..).unwrap_or_default();
        let taken = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..taken).unwrap_or_default());
        state.read += taken;
        if state.read == first.len() {
            state.chunks.pop_front();
            state.queued -= first.len();
            state.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.closed = true;
        state.chunks = VecDeque::new();
    }
}
