//! What goes to a program elsewhere: standard input, sizes of the terminal, and the keys that leave it.

use crate::failure::Failure;
use crate::terminal::{self, Signals};
use ingot_api::machine::v1::stream_input::Input;
use ingot_api::machine::v1::{StreamInput, TerminalSize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Messages on their way to the node.
const AHEAD: usize = 4;

/// Ctrl-P and Ctrl-Q, as Docker has it.
const LEAVE: [u8; 2] = [0x10, 0x11];

/// What [`Source::next`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// A message was sent, or there was nothing in it to send.
    Something,
    /// This program was asked to end, or the operator left.
    Ended,
}

/// Sends what the operator types.
pub(super) struct Source {
    to: mpsc::Sender<StreamInput>,
    input: Option<mpsc::Receiver<Vec<u8>>>,
    signals: Signals,
    keys: Option<Keys>,
}

impl Source {
    /// A source and the messages it sends. `leave`: look for the keys that leave.
    pub(super) fn new(
        stdin: bool,
        leave: bool,
    ) -> Result<(Self, ReceiverStream<StreamInput>), Failure> {
        let (to, messages) = mpsc::channel(AHEAD);
        let source = Self {
            to,
            input: stdin.then(terminal::input),
            signals: Signals::new()?,
            keys: leave.then(Keys::default),
        };
        Ok((source, ReceiverStream::new(messages)))
    }

    /// Sends the next thing there is. Cancel safe: nothing is read before there is room for it.
    pub(super) async fn next(&mut self) -> Sent {
        let Ok(room) = self.to.reserve().await else { return std::future::pending().await };
        let message = tokio::select! {
            size = self.signals.next() => match size {
                Some(size) => Input::Size(size),
                None => return Sent::Ended,
            },
            piece = next_piece(&mut self.input) => match piece {
                Some(piece) => {
                    let (piece, left) = match &mut self.keys {
                        Some(keys) => keys.take(piece),
                        None => (piece, false),
                    };
                    if left {
                        return Sent::Ended;
                    }
                    Input::Stdin(piece)
                }
                None => {
                    self.input = None;
                    Input::StdinEnd(true)
                }
            },
        };
        room.send(StreamInput { input: Some(message) });
        Sent::Something
    }

    /// Sends a size.
    pub(super) async fn resize(&self, size: TerminalSize) {
        // Fails when the node takes no more.
        let _gone = self.to.send(StreamInput { input: Some(Input::Size(size)) }).await;
    }

    /// Whether the operator pressed the keys that leave.
    pub(super) fn left(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.left)
    }
}

/// A piece of standard input, `None` at its end; never when it is not wanted.
async fn next_piece(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(pieces) => pieces.recv().await.filter(|piece| !piece.is_empty()),
        None => std::future::pending().await,
    }
}

/// Finds the keys that leave.
#[derive(Default)]
struct Keys {
    /// The first of them was pressed last and is held back.
    half: bool,
    left: bool,
}

impl Keys {
    /// What is to be sent of a piece, and whether the operator leaves.
    fn take(&mut self, piece: Vec<u8>) -> (Vec<u8>, bool) {
        let mut sent = Vec::with_capacity(piece.len() + 1);
        for byte in piece {
            if self.half && byte == LEAVE[1] {
                self.left = true;
                break;
            }
            if std::mem::take(&mut self.half) {
                sent.push(LEAVE[0]);
            }
            if byte == LEAVE[0] {
                self.half = true;
            } else {
                sent.push(byte);
            }
        }
        (sent, self.left)
    }
}

#[cfg(test)]
mod tests {
    //! The keys that leave, and those that only look like them.

    use super::*;

    fn typed(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = Keys::default();
        let mut sent = Vec::new();
        for piece in pieces {
            sent.extend(keys.take(piece.to_vec()).0);
        }
        (sent, keys.left)
    }

    #[test]
    fn both_keys_leave_also_when_they_come_apart() {
        assert_eq!(typed(&[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(typed(&[b"a\x10", b"\x11"]), (b"a".to_vec(), true));
        assert_eq!(typed(&[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
    }

    #[test]
    fn one_of_them_is_passed_on() {
        assert_eq!(typed(&[b"\x10a\x11"]), (b"\x10a\x11".to_vec(), false));
        assert_eq!(typed(&[b"\x10", b"a"]), (b"\x10a".to_vec(), false));
    }
}
