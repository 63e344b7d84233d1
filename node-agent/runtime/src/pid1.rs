//! The agent's side of the socket to PID 1: the only code that may ask PID 1 for anything.
//!
//! Each request has an id, a reply and a deadline. Notices go to two places: exits to whoever watches that process,
//! the end of the machine to [`Pid1::stopping`].

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use ingot_init_api::{End, Exit, Name, Refusal, Service};
use tokio::sync::{mpsc, watch};

/// Why PID 1 did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Pid1Error {
    /// The descriptor is not a usable socket.
    #[error("take over the socket to PID 1")]
    Socket(#[source] std::io::Error),
    /// A packet could not be sent.
    #[error("send to PID 1")]
    Send(#[source] std::io::Error),
    /// PID 1 did not answer in time.
    #[error("PID 1 did not answer {request} within {} ms", .deadline.as_millis())]
    Deadline {
        /// What was asked.
        request: &'static str,
        /// How long was waited.
        deadline: Duration,
    },
    /// PID 1 refused.
    #[error("PID 1 refused {request}: {refusal:?}")]
    Refused {
        /// What was asked.
        request: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// The answer does not fit the question.
    #[error("PID 1 gave an answer that does not fit {request}")]
    WrongReply {
        /// What was asked.
        request: &'static str,
    },
    /// PID 1 closed the socket.
    #[error("the socket to PID 1 is closed")]
    Closed,
}

/// What PID 1 says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// How often the agent was restarted since boot.
    pub restarts: u32,
    /// CLOCK_BOOTTIME nanoseconds at which PID 1 began.
    pub started_at_ns: u64,
}

/// The machine is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// How.
    pub how: End,
    /// How long the agent has to stop pods.
    pub grace: Duration,
}

/// A connection to PID 1. Cheap to clone.
#[derive(Clone)]
pub struct Pid1 {
    stopping: watch::Receiver<Option<Stopping>>,
}

impl Pid1 {
    /// Takes over the socket, says hello. Must be called inside a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When the descriptor is no socket or PID 1 does not answer.
    pub async fn connect(socket: OwnedFd) -> Result<(Self, Hello), Pid1Error> {
        let _ = socket;
        Err(Pid1Error::Closed)
    }

    /// Changes to `Some` when PID 1 ends the machine.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<Option<Stopping>> {
        self.stopping.clone()
    }

    /// Exits of watched processes that nobody has asked for yet; one consumer, the engine.
    pub(crate) fn exits(&self) -> Option<mpsc::Receiver<Exit>> {
        None
    }

    /// Keeps a descriptor.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn store_fd(&self, name: Name, fd: BorrowedFd<'_>) -> Result<(), Pid1Error> {
        let _ = (name, fd);
        Err(Pid1Error::Closed)
    }

    /// The services PID 1 keeps.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn services(&self) -> Result<Vec<Service>, Pid1Error> {
        Err(Pid1Error::Closed)
    }

    /// Starts a stopped service.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn start_service(&self, name: Name) -> Result<(), Pid1Error> {
        let _ = name;
        Err(Pid1Error::Closed)
    }

    /// Stops a service and keeps it stopped.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn stop_service(&self, name: Name) -> Result<(), Pid1Error> {
        let _ = name;
        Err(Pid1Error::Closed)
    }

    /// Stops and starts a service; with `kill` by SIGKILL at once.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn restart_service(&self, name: Name, kill: bool) -> Result<(), Pid1Error> {
        let _ = (name, kill);
        Err(Pid1Error::Closed)
    }

    /// Begins the ordered end of the machine; [`Pid1::stopping`] then changes.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn end_machine(&self, how: End, grace: Duration) -> Result<(), Pid1Error> {
        let _ = (how, grace);
        Err(Pid1Error::Closed)
    }

    /// Everything of ours is stopped.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn ready_to_end(&self) -> Result<(), Pid1Error> {
        Err(Pid1Error::Closed)
    }
}
