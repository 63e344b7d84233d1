//! The course of a client, the same in both versions of IP: it asks, requests what it was offered, is bound, and renews in
//! time. Knows no message, no clock and no socket.

use super::pause;
use std::time::Duration;

/// The times of a lease, since boot.
pub(super) struct Times {
    /// When to ask its server to renew it.
    pub(super) renew_at: Duration,
    /// When to ask anybody.
    pub(super) rebind_at: Duration,
    /// When it ends.
    pub(super) ends_at: Duration,
}

/// A lease.
pub(super) trait Term {
    fn times(&self) -> Times;
}

/// What is being done, where `O` is an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage<O> {
    /// Everybody is asked for an offer.
    Asking,
    /// The address that was offered is requested.
    Requesting(O),
    /// There is a lease; nothing is said.
    Bound,
    /// Its server is asked to renew it.
    Renewing,
    /// Everybody is.
    Rebinding,
}

/// Where a client is, with offers `O` and leases `L`. Times are since boot.
#[derive(Clone, Debug)]
pub(super) struct Course<O, L> {
    pub(super) stage: Stage<O>,
    /// The best offer that was heard in this stage.
    pub(super) heard: Option<O>,
    pub(super) lease: Option<L>,
    pub(super) transaction: u32,
    /// Messages sent in this stage.
    pub(super) tries: u32,
    /// When the stage began.
    pub(super) begun: Duration,
    /// When time is to be taken notice of.
    pub(super) wake: Duration,
}

impl<O, L: Term> Course<O, L> {
    /// Begins, with an old lease unless it has ended.
    pub(super) fn new(old: Option<L>, now: Duration) -> Self {
        let lease = old.filter(|lease| lease.times().ends_at > now);
        let stage = if lease.is_some() { Stage::Bound } else { Stage::Asking };
        let wake = lease.as_ref().map_or(now, |lease| lease.times().renew_at);
        Self { stage, heard: None, lease, transaction: 0, tries: 0, begun: now, wake }
    }

    /// Begins a stage.
    pub(super) fn enter(&mut self, stage: Stage<O>, now: Duration) {
        self.stage = stage;
        self.heard = None;
        self.tries = 0;
        self.begun = now;
    }

    /// Whether answers may come, so that a socket is needed.
    pub(super) fn is_listening(&self) -> bool {
        !matches!(self.stage, Stage::Bound)
    }

    /// The cable was plugged in again: perhaps into another network.
    pub(super) fn carrier_returned(&mut self, now: Duration) {
        if !self.is_listening() {
            self.enter(Stage::Rebinding, now);
        }
        self.wake = now;
    }

    /// Begins the renewal when it is time for it; nothing is sent.
    pub(super) fn due(&mut self, now: Duration) {
        let renew_at = self.lease.as_ref().map(|lease| lease.times().renew_at);
        if !self.is_listening() && renew_at.is_none_or(|at| now >= at) {
            self.enter(Stage::Renewing, now);
            self.wake = now;
        }
    }

    /// What time alone changes; an offer is requested so often at most. Whether the lease has ended.
    pub(super) fn pass(&mut self, now: Duration, requests_max: u32) -> bool {
        self.due(now);
        let mut ended = false;
        if let Some(lease) = &self.lease {
            if now >= lease.times().ends_at {
                self.lease = None;
                ended = true;
                self.enter(Stage::Asking, now);
            } else if now >= lease.times().rebind_at && matches!(self.stage, Stage::Renewing) {
                self.enter(Stage::Rebinding, now);
            }
        }
        if matches!(self.stage, Stage::Requesting(_)) && self.tries >= requests_max {
            self.enter(Stage::Asking, now);
        }
        ended
    }

    /// A message was sent: the next one is due after a pause between these, or when the lease has come to its next time.
    pub(super) fn sent(&mut self, now: Duration, between: (Duration, Duration), random: u32) {
        self.tries += 1;
        self.wake = now + pause(self.tries, between, random);
        let limit = self.lease.as_ref().map(|lease| match self.stage {
            Stage::Renewing => lease.times().rebind_at,
            _ => lease.times().ends_at,
        });
        if let Some(limit) = limit {
            self.wake = self.wake.min(limit);
        }
    }

    /// There is a lease.
    pub(super) fn bind(&mut self, lease: L, now: Duration) {
        self.wake = lease.times().renew_at;
        self.lease = Some(lease);
        self.enter(Stage::Bound, now);
    }

    /// Asks anew, after a pause. Whether that gave up a lease.
    pub(super) fn begin_anew(&mut self, now: Duration, pause: Duration) -> bool {
        let had = self.lease.take().is_some();
        self.enter(Stage::Asking, now);
        self.wake = now + pause;
        had
    }
}
