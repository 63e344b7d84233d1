//! Which processes are watched, how they ended, and what the agent has not acknowledged yet.
//!
//! An exit is in exactly one place: with its watch until it is acknowledged, or in the ring of recent ends that nobody
//! had asked for yet.

use std::collections::VecDeque;

use ingot_init_api::{Exit, WATCHES_MAX};

/// Ends kept that nobody watches, so that a watch set just after an end still finds it. The helper that builds a
/// container and the agent's watch are milliseconds apart; this many ends in between would take a fork bomb.
pub const RECENT_MAX: usize = 1024;

/// Wait status told for a process whose end somebody else collected: exit status 255.
pub const UNKNOWN_STATUS: i32 = 255 << 8;

#[derive(Clone, Copy, Debug)]
struct Watch {
    pid: i32,
    start_time: u64,
    end: Option<Delivery>,
}

#[derive(Clone, Copy, Debug)]
struct Delivery {
    exit: Exit,
    /// Sent to the agent that runs now.
    sent: bool,
}

/// The tables.
#[derive(Debug)]
pub struct Exits {
    watches: Vec<Watch>,
    recent: VecDeque<Exit>,
    unsent: usize,
}

/// What became of a wish to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    Done,
    Full,
    NotFound,
}

impl Exits {
    pub(super) fn new() -> Self {
        Self {
            watches: Vec::with_capacity(WATCHES_MAX),
            recent: VecDeque::with_capacity(RECENT_MAX),
            unsent: 0,
        }
    }

    /// `alive_since` is the start time of the process that has this pid now.
    pub(super) fn watch(&mut self, pid: i32, start_time: u64, alive_since: Option<u64>) -> Watched {
        if let Some(watch) = self.find(pid, start_time) {
            // Asked again: told again.
            let again =
                watch.end.as_mut().is_some_and(|end| std::mem::replace(&mut end.sent, false));
            self.unsent = self.unsent.saturating_add(usize::from(again));
            return Watched::Done;
        }
        if self.watches.len() >= WATCHES_MAX {
            return Watched::Full;
        }
        let found =
            self.recent.iter().position(|exit| exit.pid == pid && exit.start_time == start_time);
        let end =
            found.and_then(|at| self.recent.remove(at)).map(|exit| Delivery { exit, sent: false });
        if end.is_none() && alive_since != Some(start_time) {
            return Watched::NotFound;
        }
        self.unsent = self.unsent.saturating_add(usize::from(end.is_some()));
        self.watches.push(Watch { pid, start_time, end });
        Watched::Done
    }

    /// A process ended. An unknown start time (0) fits any living watch of that pid: the pid was ours until now.
    pub(super) fn ended(&mut self, exit: Exit) {
        let fits = |watch: &&mut Watch| {
            watch.pid == exit.pid
                && watch.end.is_none()
                && (watch.start_time == exit.start_time || exit.start_time == 0)
        };
        if let Some(watch) = self.watches.iter_mut().find(fits) {
            let exit = Exit { start_time: watch.start_time, ..exit };
            watch.end = Some(Delivery { exit, sent: false });
            self.unsent = self.unsent.saturating_add(1);
            return;
        }
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(exit);
    }

    pub(super) fn vanished(&mut self, pid: i32, start_time: u64, noticed_at_ns: u64) {
        if self.find(pid, start_time).is_some_and(|watch| watch.end.is_none()) {
            self.ended(Exit {
                pid,
                start_time,
                wait_status: UNKNOWN_STATUS,
                ended_at_ns: noticed_at_ns,
            });
        }
    }

    /// Forgets an end. A process that lives stays watched: there is nothing to acknowledge.
    pub(super) fn acknowledge(&mut self, pid: i32, start_time: u64) {
        let at = self.watches.iter().position(|watch| {
            watch.pid == pid && watch.start_time == start_time && watch.end.is_some()
        });
        if let Some(watch) = at.map(|at| self.watches.remove(at)) {
            let unsent = watch.end.is_some_and(|end| !end.sent);
            self.unsent = self.unsent.saturating_sub(usize::from(unsent));
        }
    }

    /// All ends that are not acknowledged are to be sent (again).
    pub(super) fn forget_deliveries(&mut self) {
        self.unsent = 0;
        for end in self.watches.iter_mut().filter_map(|watch| watch.end.as_mut()) {
            end.sent = false;
            self.unsent = self.unsent.saturating_add(1);
        }
    }

    /// The next end to send.
    pub(super) fn next_unsent(&self) -> Option<Exit> {
        if self.unsent == 0 {
            return None;
        }
        self.watches.iter().filter_map(|watch| watch.end).find(|end| !end.sent).map(|end| end.exit)
    }

    pub(super) fn mark_sent(&mut self, exit: &Exit) {
        let end = self.find(exit.pid, exit.start_time).and_then(|watch| watch.end.as_mut());
        if let Some(end) = end.filter(|end| !end.sent) {
            end.sent = true;
            self.unsent = self.unsent.saturating_sub(1);
        }
    }

    /// Watched processes that have not ended.
    pub(super) fn living(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        self.watches
            .iter()
            .filter(|watch| watch.end.is_none())
            .map(|watch| (watch.pid, watch.start_time))
    }

    /// Entries in both tables.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.watches.len(), self.recent.len())
    }

    fn find(&mut self, pid: i32, start_time: u64) -> Option<&mut Watch> {
        self.watches.iter_mut().find(|watch| watch.pid == pid && watch.start_time == start_time)
    }
}
