//! The operator's terminal as somebody else's: raw while a program elsewhere has it, restored on every way out.

use crate::failure::{Exit, Failure};
use ingot_api::machine::v1::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal as _, Read as _, stdin};
use std::sync::{Mutex, Once, PoisonError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Bytes of input that are read at once.
const PIECE: usize = 16 * 1024;

/// Pieces of input on their way to the node.
const AHEAD: usize = 4;

/// How the terminal was. Global, because a panic ends the program without dropping anything.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // There is nothing else to try.
        let _left = tcsetattr(stdin(), OptionalActions::Flush, &before);
    }
}

/// A raw terminal; it is as before when this is dropped.
pub(crate) struct Raw(());

impl Raw {
    /// Makes standard input raw. `None` when it is no terminal.
    pub(crate) fn enter() -> Result<Option<Self>, Failure> {
        static HOOK: Once = Once::new();
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let failed = |error: rustix::io::Errno| {
            Failure::new(Exit::Failed, "cannot set up the terminal").because(&error)
        };
        let before = tcgetattr(stdin()).map_err(failed)?;
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                usual(panic);
            }));
        });
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(stdin(), OptionalActions::Flush, &raw).map_err(|error| {
            restore();
            failed(error)
        })?;
        Ok(Some(Self(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Size of the terminal that standard output is; `None` when it is none.
pub(crate) fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    let size = TerminalSize { columns: size.ws_col.into(), rows: size.ws_row.into() };
    (size.columns > 0 && size.rows > 0).then_some(size)
}

/// Signals that matter while a program elsewhere has the terminal.
pub(crate) struct Signals {
    resized: Signal,
    ends: [Signal; 2],
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Failed, "cannot listen for signals").because(&error)
            })
        };
        Ok(Self {
            resized: listen(SignalKind::window_change())?,
            ends: [listen(SignalKind::terminate())?, listen(SignalKind::hangup())?],
        })
    }

    /// The next new size of the terminal, or `None` when this program was asked to end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<TerminalSize> {
        let [terminate, hangup] = &mut self.ends;
        loop {
            tokio::select! {
                _ = terminate.recv() => return None,
                _ = hangup.recv() => return None,
                _ = self.resized.recv() => {
                    if let Some(size) = size() {
                        return Some(size);
                    }
                }
            }
        }
    }
}

/// Standard input in pieces; an empty one is its end. Read by a thread of its own, which a program that ends does not wait for.
pub(crate) fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            // An input that cannot be read has ended.
            let count = stdin().lock().read(&mut buffer).unwrap_or(0);
            let piece = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.blocking_send(piece).is_err() || count == 0 {
                return;
            }
        }
    });
    receiver
}
