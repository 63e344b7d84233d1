//! What the store has to say without being asked: damage it found, and what an image brought that was left out. A bounded
//! queue with one reader; what does not fit is only in the log.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

/// Notices that wait for the reader. One pull makes one at most, one opening one for each damaged image.
const WAITING_MAX: usize = 64;

/// Something the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// CamelCase and stable.
    pub reason: &'static str,
    /// "image/NAME" or "images".
    pub object: String,
    /// One line.
    pub message: String,
}

/// Where notices come out.
pub type Notices = mpsc::Receiver<Notice>;

/// Where they go in.
#[derive(Debug)]
pub(crate) struct Board {
    sender: mpsc::Sender<Notice>,
    receiver: Mutex<Option<Notices>>,
}

impl Board {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }

    pub(crate) fn tell(&self, reason: &'static str, object: impl Into<String>, message: String) {
        let notice = Notice { reason, object: object.into(), message };
        tracing::warn!(reason, object = notice.object, message = notice.message);
        // Nobody reads, or reads too slowly: the line above is what is left.
        let _ = self.sender.try_send(notice);
    }

    pub(crate) fn reader(&self) -> Option<Notices> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An error with its causes, in a line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
