//! What is to be sent to the agent, in which order.
//!
//! Nothing is queued: the one reply that may be pending lies here, exits lie with their watches, and whether the end of
//! the machine was announced is one bit. So a socket that takes nothing costs nothing.

use ingot_init_api::{Exit, FromInit, Name, Notice, Refusal, Reply};

use super::{Milliseconds, Phase, State};

/// A reply that waits for the socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) id: u32,
    pub(super) reply: Reply,
    /// Stored descriptor to go with it.
    pub(super) fd: Option<Name>,
    /// Sent only when all exits were.
    pub(super) after_exits: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The agent has its socket and did not close it.
    open: bool,
    pub(super) pending: Option<Pending>,
    /// The agent that runs now was told that the machine ends.
    announced: bool,
}

/// Which thing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The pending reply.
    Reply,
    /// This exit.
    Exit(Exit),
    /// That the machine ends.
    Stopping,
}

/// Something to send.
#[derive(Debug)]
pub struct Outgoing<'a, F> {
    /// The message.
    pub message: FromInit,
    /// The descriptor to go with it.
    pub fd: Option<&'a F>,
    /// What to tell [`State::sent`].
    pub slot: Slot,
}

impl Outbox {
    pub(super) fn has_room(&self) -> bool {
        self.pending.is_none()
    }

    pub(super) fn reply(&mut self, id: u32, reply: Reply) {
        self.pending = Some(Pending { id, reply, fd: None, after_exits: false });
    }

    /// A message without a readable id is answered with id 0, which no agent uses.
    pub(super) fn refuse_malformed(&mut self) {
        self.reply(0, Reply::Refused(Refusal::Malformed));
    }

    /// A new agent was started with a new socket.
    pub(super) fn open(&mut self) {
        *self = Self { open: true, ..Self::default() };
    }

    /// The agent is gone, or its socket; nothing of this is for the next one.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }
}

impl<F> State<F> {
    /// The next thing to send. Unasked things only to an agent that said hello.
    #[must_use]
    pub fn outgoing(&self, now: Milliseconds) -> Option<Outgoing<'_, F>> {
        if !self.outbox.open {
            return None;
        }
        let pending = self.outbox.pending.as_ref();
        if let Some(first) = pending.filter(|pending| !pending.after_exits) {
            return Some(self.outgoing_reply(first));
        }
        if self.agent.greeted() {
            if let Some(ending) = self.ending.filter(|_| !self.outbox.announced) {
                // What is left: the agent may be one that came in the middle of it.
                let asking = ending.phase == Phase::Asking;
                let left = if asking { ending.until.saturating_sub(now) } else { 0 };
                let grace_ms = u32::try_from(left).unwrap_or(u32::MAX);
                let message = FromInit::Notice(Notice::Stopping { how: ending.how, grace_ms });
                return Some(Outgoing { message, fd: None, slot: Slot::Stopping });
            }
            if let Some(exit) = self.exits.next_unsent() {
                let message = FromInit::Notice(Notice::Exit(exit));
                return Some(Outgoing { message, fd: None, slot: Slot::Exit(exit) });
            }
        }
        pending.map(|last| self.outgoing_reply(last))
    }

    fn outgoing_reply(&self, pending: &Pending) -> Outgoing<'_, F> {
        let message = FromInit::Reply { id: pending.id, reply: pending.reply };
        let fd = pending.fd.and_then(|name| self.store.get(&name));
        Outgoing { message, fd, slot: Slot::Reply }
    }

    /// The socket took it.
    pub fn sent(&mut self, slot: Slot) {
        match slot {
            Slot::Reply => self.outbox.pending = None,
            Slot::Exit(exit) => self.exits.mark_sent(&exit),
            Slot::Stopping => self.outbox.announced = true,
        }
    }
}
