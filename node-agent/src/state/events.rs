//! What happened on the node: a bounded ring that readers may follow. Lost at a restart of the agent; what must outlive
//! it belongs in a record of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;

/// Events kept at most.
pub(crate) const EVENTS_MAX: usize = 4096;

/// Longest message kept, in bytes: a client chooses part of some messages.
const MESSAGE_MAX: usize = 512;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// As wished.
    Info,
    /// Somebody may want to look.
    Warning,
    /// Something wished for is not true.
    Error,
}

impl Severity {
    /// The word in the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Counts from 1 since the agent began.
    pub(crate) sequence: u64,
    /// When.
    pub(crate) time: SystemTime,
    /// CamelCase and stable.
    pub(crate) reason: &'static str,
    /// How bad.
    pub(crate) severity: Severity,
    /// What it is about.
    pub(crate) object: String,
    /// One line.
    pub(crate) message: String,
}

struct Ring {
    events: VecDeque<Arc<Event>>,
    next: u64,
}

/// The shared ring; cheap to clone.
#[derive(Clone)]
pub(crate) struct Events {
    ring: Arc<Mutex<Ring>>,
    newest: Arc<watch::Sender<u64>>,
}

impl Events {
    /// No events.
    pub(crate) fn new() -> Self {
        let ring = Ring { events: VecDeque::new(), next: 1 };
        Self { ring: Arc::new(Mutex::new(ring)), newest: Arc::new(watch::Sender::new(0)) }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // A panic aborts the program, so the lock is never poisoned; should it be, the ring is still whole.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event, in the log too; the oldest is dropped when the ring is full.
    pub(crate) fn record(
        &self,
        severity: Severity,
        reason: &'static str,
        object: impl Into<String>,
        message: impl Into<String>,
    ) {
        let object = object.into();
        let message = one_line(message.into());
        match severity {
            Severity::Info => tracing::info!("{reason} {object}: {message}"),
            Severity::Warning => tracing::warn!("{reason} {object}: {message}"),
            Severity::Error => tracing::error!("{reason} {object}: {message}"),
        }
        self.keep(severity, reason, object, message);
    }

    /// Records an event that its origin has logged already.
    pub(crate) fn keep(
        &self,
        severity: Severity,
        reason: &'static str,
        object: String,
        message: String,
    ) {
        let message = one_line(message);
        let mut ring = self.lock();
        let sequence = ring.next;
        ring.next += 1;
        if ring.events.len() == EVENTS_MAX {
            ring.events.pop_front();
        }
        let time = SystemTime::now();
        ring.events.push_back(Arc::new(Event {
            sequence,
            time,
            reason,
            severity,
            object,
            message,
        }));
        drop(ring);
        self.newest.send_replace(sequence);
    }

    /// Kept events with a sequence of at least `from`, oldest first.
    pub(crate) fn since(&self, from: u64) -> Vec<Arc<Event>> {
        let ring = self.lock();
        ring.events.iter().filter(|event| event.sequence >= from).cloned().collect()
    }

    /// Sequence to begin at so that only the newest `tail` are read; 0 for all.
    pub(crate) fn tail(&self, tail: usize) -> u64 {
        let ring = self.lock();
        let skip = if tail == 0 { 0 } else { ring.events.len().saturating_sub(tail) };
        ring.events.get(skip).map_or(ring.next, |event| event.sequence)
    }

    /// Wakes its holder at each new event.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

/// Control characters become spaces (a console shows these lines), and the length is bounded.
fn one_line(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let mut end = MESSAGE_MAX;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    if message.contains(|c: char| c.is_control()) {
        message = message.replace(|c: char| c.is_control(), " ");
    }
    message
}
