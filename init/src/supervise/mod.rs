//! The whole policy of PID 1 as a pure function of state and event: no system calls, no clock, no I/O.
//!
//! [`State::handle`] takes one [`Event`] and says which [`Action`]s follow; what is to be sent to the agent is taken from
//! [`State::outgoing`] as fast as the socket takes it. All tables have their full size from the start, so nothing grows
//! and nothing is allocated later. `F` is a file descriptor in PID 1 and a number in the tests.

mod agent;
mod ending;
mod exits;
mod line;
mod outbox;
mod requests;
mod store;

use ingot_init_api::{End, Exit, Request};

pub use agent::{
    Agent, BACKOFF_FLOOR, BACKOFF_MAX, SILENCE_DEADLINE, SOCKET_DEADLINE, STEADY_AFTER,
    STOP_DEADLINE, Stop,
};
pub use ending::{BUTTON_GRACE, Ending, GRACE_MAX, Phase};
pub use exits::{Exits, RECENT_MAX, UNKNOWN_STATUS};
pub use line::Line;
pub use outbox::{Outgoing, Slot};

/// Milliseconds since boot, as CLOCK_BOOTTIME counts them.
pub type Milliseconds = u64;

/// The watchdog is fed this often. A quarter of its time ([`crate::system`] sets 60 s), so that three turns may be late.
pub const FEED_EVERY: Milliseconds = 15_000;

/// The name of the only service.
pub const AGENT_NAME: &str = "ingotd";

/// What happened.
#[derive(Debug)]
pub enum Event<F> {
    /// Nothing but time passing.
    Tick,
    /// The agent was started.
    AgentStarted {
        /// Its process.
        pid: i32,
    },
    /// The agent could not be started.
    AgentNotStarted,
    /// A child ended and was collected.
    Ended(Exit),
    /// A watched process is gone, and somebody else collected it.
    Vanished {
        /// Its pid.
        pid: i32,
        /// When it started.
        start_time: u64,
        /// CLOCK_REALTIME nanoseconds at which this was noticed.
        noticed_at_ns: u64,
    },
    /// The last child is gone.
    NoChildren,
    /// The agent asks something.
    Request(Asked<F>),
    /// The agent sent something that is no message.
    Malformed,
    /// The agent closed its end of the socket.
    SocketLost,
    /// A person wants the machine to end: power button, Ctrl-Alt-Del, a signal.
    EndWanted(End),
    /// A helper was started.
    HelperStarted {
        /// Its process.
        pid: i32,
    },
    /// A helper could not be started.
    HelperNotStarted,
    /// `reboot(2)` came back.
    EndRefused,
}

/// A request of the agent and what came with it.
#[derive(Debug)]
pub struct Asked<F> {
    /// Id to repeat in the reply.
    pub id: u32,
    /// What is asked.
    pub request: Request,
    /// The descriptor that came along.
    pub fd: Option<F>,
    /// Start time of the process a [`Request::Watch`] names, when there is such a process.
    pub alive_since: Option<u64>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the agent, with a new socket.
    StartAgent,
    /// Send the agent SIGKILL, or SIGTERM.
    SignalAgent {
        /// Its process.
        pid: i32,
        /// SIGKILL.
        kill: bool,
    },
    /// Forget the socket of an agent that is gone.
    CloseSocket,
    /// Look whether the watched processes still live.
    CheckWatched,
    /// SIGTERM to every process.
    TerminateEveryone,
    /// SIGKILL to every process.
    KillEveryone,
    /// Start a child for work that may block.
    StartHelper(Helper),
    /// Feed the watchdog.
    FeedWatchdog,
    /// `reboot(2)`.
    EndMachine(End),
    /// Leave PID 1, which makes the kernel panic: `reboot(2)` does not work.
    GiveUp,
    /// Make the consoles show what a person waits for.
    ShowProgress,
    /// A line for the kernel log.
    Log(Line),
}

/// Work of the way down that may block for ever, and so is done in a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    /// `sync(2)`.
    Sync,
    /// Unmount everything, newest first.
    Unmount,
    /// Make read-only what can be, and detach the rest.
    Detach,
}

/// Everything PID 1 knows.
#[derive(Debug)]
pub struct State<F> {
    pub(crate) agent: Agent,
    pub(crate) exits: Exits,
    pub(crate) store: store::Store<F>,
    pub(crate) outbox: outbox::Outbox,
    pub(crate) ending: Option<Ending>,
    started_at: Milliseconds,
    feed_at: Milliseconds,
}

impl<F> State<F> {
    /// The state at boot: everything empty, the agent to be started at once.
    #[must_use]
    pub fn new(now: Milliseconds) -> Self {
        Self {
            agent: Agent::new(now),
            exits: Exits::new(),
            store: store::Store::new(),
            outbox: outbox::Outbox::default(),
            ending: None,
            started_at: now,
            feed_at: now,
        }
    }

    /// One event, and everything whose time has come.
    pub fn handle(&mut self, now: Milliseconds, event: Event<F>, actions: &mut Vec<Action>) {
        match event {
            Event::Tick => {}
            Event::AgentStarted { pid } => {
                self.agent.started(now, pid);
                self.outbox.open();
                actions.push(Action::Log(Line::AgentStarted { pid }));
            }
            Event::AgentNotStarted => self.agent.not_started(now, actions),
            Event::Ended(exit) => self.child_ended(now, exit, actions),
            Event::Vanished { pid, start_time, noticed_at_ns } => {
                self.exits.vanished(pid, start_time, noticed_at_ns);
            }
            Event::NoChildren => self.no_children(now, actions),
            Event::Request(asked) => self.request(now, asked, actions),
            Event::Malformed => {
                actions.push(Action::Log(Line::Malformed));
                self.outbox.refuse_malformed();
            }
            Event::SocketLost => {
                actions.push(Action::CloseSocket);
                self.outbox.close();
                self.agent.socket_lost(now);
            }
            Event::EndWanted(how) => self.end_wanted(now, how, actions),
            Event::HelperStarted { pid } => self.helper_started(pid),
            Event::HelperNotStarted => self.helper_done(now, false, actions),
            Event::EndRefused => self.end_refused(now, actions),
        }
        self.time(now, actions);
    }

    /// When [`State::handle`] wants to be called at the latest, be it with [`Event::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Milliseconds {
        let ending = self.ending.map_or(Milliseconds::MAX, |ending| ending.until);
        // Past stopping pods the agent is one process of many, and its own deadlines mean nothing any more.
        let agent = if self.past_asking() { Milliseconds::MAX } else { self.agent.deadline() };
        self.feed_at.min(ending).min(agent)
    }

    /// Whether the agent's next request may be read. Not while a reply still waits for the socket: that is what keeps the
    /// outbox at one reply.
    #[must_use]
    pub fn takes_requests(&self) -> bool {
        self.outbox.has_room()
    }

    /// The name and file descriptor store, for the reply that carries one.
    #[must_use]
    pub fn stored(&self, name: &ingot_init_api::Name) -> Option<&F> {
        self.store.get(name)
    }

    /// Watched processes that have not ended, as pid and start time.
    pub fn living_watches(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        self.exits.living()
    }

    /// How many watches, unclaimed ends and stored descriptors there are.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize, usize) {
        let (watches, recent) = self.exits.sizes();
        (watches, recent, self.store.len())
    }

    /// Whether the machine ends and the time for stopping pods is over.
    fn past_asking(&self) -> bool {
        self.ending.is_some_and(|ending| ending.phase != Phase::Asking)
    }

    /// Everything whose time has come.
    fn time(&mut self, now: Milliseconds, actions: &mut Vec<Action>) {
        if now >= self.feed_at {
            self.feed_at = now.saturating_add(FEED_EVERY);
            actions.push(Action::FeedWatchdog);
        }
        self.ending_time(now, actions);
        if self.past_asking() {
            self.agent.stays_down();
        } else {
            self.agent.time(now, actions);
        }
    }

    fn child_ended(&mut self, now: Milliseconds, exit: Exit, actions: &mut Vec<Action>) {
        if self.agent.pid() == Some(exit.pid) {
            let comes_again = !self.past_asking();
            self.agent.ended(now, exit.wait_status, comes_again, actions);
            self.outbox.close();
            actions.push(Action::CloseSocket);
        } else if !self.helper_ended(now, exit.pid, exit.wait_status, actions) {
            self.exits.ended(exit);
        }
    }
}
