//! The agent's life: when it is started, stopped and started again. Its end concerns nobody else.

use ingot_init_api::{Name, SPEAK_EVERY_SECONDS, Service, ServiceState};

use super::{AGENT_NAME, Action, Line, Milliseconds};

/// Pause before a restart at least. Long enough that a crash at the first instruction is no busy loop, short against the
/// second in which the API is to be back.
pub const BACKOFF_FLOOR: Milliseconds = 20;

/// Pause before a restart at most. Long enough that a crash loop leaves the machine to its pods, short enough that a
/// cured cause is noticed while somebody watches.
pub const BACKOFF_MAX: Milliseconds = 10_000;

/// An agent that said hello and ran this long is no crash loop, and its restart is immediate again.
pub const STEADY_AFTER: Milliseconds = 1_000;

/// An agent that says nothing for this long, be it before its hello or later, hangs and is killed. Generous: software
/// emulation under load needs seconds, and killing an agent that is only slow makes it slower.
pub const SILENCE_DEADLINE: Milliseconds = SPEAK_EVERY_SECONDS * 8_000;

/// Time between SIGTERM and SIGKILL.
pub const STOP_DEADLINE: Milliseconds = 5_000;

/// An agent whose socket is closed is most likely just ending; it gets this long to do so by itself, so that its own exit
/// status is what is seen.
pub const SOCKET_DEADLINE: Milliseconds = 1_000;

/// Doublings from the floor at most; 20 ms << 9 is past the maximum.
const DOUBLINGS_MAX: u32 = 9;

/// Whether an agent was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was not.
    No,
    /// It was not, but it closed its socket; SIGTERM follows.
    Expected {
        /// When.
        terminate_at: Milliseconds,
    },
    /// By SIGTERM; SIGKILL follows.
    Terminated {
        /// When.
        kill_at: Milliseconds,
    },
    /// By SIGKILL.
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// No process; to be started at this time.
    Down { until: Milliseconds },
    /// Its start was ordered and not yet reported.
    Starting,
    /// A process, and when it last said something after its hello.
    Up { pid: i32, since: Milliseconds, heard: Option<Milliseconds>, stop: Stop },
    /// No process, and none will be: the machine ends.
    Off,
}

/// The agent, as PID 1 sees it.
#[derive(Debug)]
pub struct Agent {
    life: Life,
    changed_at: Milliseconds,
    starts: u32,
    short_lives: u32,
    last_wait_status: Option<i32>,
}

impl Agent {
    pub(super) fn new(now: Milliseconds) -> Self {
        let life = Life::Down { until: now };
        Self { life, changed_at: now, starts: 0, short_lives: 0, last_wait_status: None }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match self.life {
            Life::Up { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Starts after the first.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    /// Whether it said hello.
    #[must_use]
    pub fn greeted(&self) -> bool {
        matches!(self.life, Life::Up { heard: Some(_), .. })
    }

    pub(super) fn started(&mut self, now: Milliseconds, pid: i32) {
        self.starts = self.starts.saturating_add(1);
        self.turn(now, Life::Up { pid, since: now, heard: None, stop: Stop::No });
    }

    pub(super) fn not_started(&mut self, now: Milliseconds, actions: &mut Vec<Action>) {
        let again_in = self.pause(true);
        actions.push(Action::Log(Line::AgentNotStarted { again_in }));
        self.turn(now, Life::Down { until: now.saturating_add(again_in) });
    }

    /// Its process ended. It comes again unless the machine is past stopping pods.
    pub(super) fn ended(
        &mut self,
        now: Milliseconds,
        wait_status: i32,
        comes_again: bool,
        actions: &mut Vec<Action>,
    ) {
        let Life::Up { since, heard, stop, .. } = self.life else { return };
        let ran = now.saturating_sub(since);
        // One that was told to end is no crash, however short it ran.
        let told = matches!(stop, Stop::Terminated { .. } | Stop::Killed);
        let steady = heard.is_some() && ran >= STEADY_AFTER;
        let pause = self.pause(!told && !steady);
        self.last_wait_status = Some(wait_status);
        let again_in = comes_again.then_some(pause);
        actions.push(Action::Log(Line::AgentEnded { wait_status, ran, again_in }));
        self.turn(
            now,
            again_in.map_or(Life::Off, |pause| Life::Down { until: now.saturating_add(pause) }),
        );
    }

    /// It said something; only a hello makes it an agent that answers.
    pub(super) fn heard(&mut self, now: Milliseconds, hello: bool) {
        if let Life::Up { heard, .. } = &mut self.life
            && (hello || heard.is_some())
        {
            *heard = Some(now);
        }
    }

    /// An agent without a socket is of no use, and ends soon or is ended.
    pub(super) fn socket_lost(&mut self, now: Milliseconds) {
        if let Life::Up { stop: stop @ Stop::No, .. } = &mut self.life {
            *stop = Stop::Expected { terminate_at: now.saturating_add(SOCKET_DEADLINE) };
        }
    }

    /// Stops and starts it; one that waits is started at once.
    pub(super) fn restart(&mut self, now: Milliseconds, kill: bool, actions: &mut Vec<Action>) {
        self.start_now(now);
        self.stop(now, kill, actions);
    }

    /// Ends the pause before a restart.
    pub(super) fn start_now(&mut self, now: Milliseconds) {
        if let Life::Down { until } = &mut self.life {
            *until = now;
        }
    }

    fn stop(&mut self, now: Milliseconds, kill: bool, actions: &mut Vec<Action>) {
        if let Life::Up { pid, stop, .. } = &mut self.life
            && (kill || !matches!(stop, Stop::Terminated { .. }))
            && *stop != Stop::Killed
        {
            let kill_at = now.saturating_add(STOP_DEADLINE);
            *stop = if kill { Stop::Killed } else { Stop::Terminated { kill_at } };
            actions.push(Action::SignalAgent { pid: *pid, kill });
            self.changed_at = now;
        }
    }

    pub(super) fn time(&mut self, now: Milliseconds, actions: &mut Vec<Action>) {
        match self.life {
            Life::Down { until } if now >= until => {
                self.life = Life::Starting;
                actions.push(Action::StartAgent);
            }
            Life::Up { stop: Stop::Expected { terminate_at }, .. } if now >= terminate_at => {
                actions.push(Action::Log(Line::SocketLost));
                self.stop(now, false, actions);
            }
            Life::Up { stop: Stop::Terminated { kill_at }, .. } if now >= kill_at => {
                self.stop(now, true, actions);
            }
            Life::Up { since, heard, stop: Stop::No, .. }
                if now >= heard.unwrap_or(since).saturating_add(SILENCE_DEADLINE) =>
            {
                actions.push(Action::Log(Line::AgentSilent));
                self.stop(now, true, actions);
            }
            _ => {}
        }
    }

    /// No more starts. One whose start was ordered still reports itself.
    pub(super) fn stays_down(&mut self) {
        if let Life::Down { .. } = self.life {
            self.life = Life::Off;
        }
    }

    pub(super) fn deadline(&self) -> Milliseconds {
        match self.life {
            Life::Down { until } => until,
            Life::Up { stop: Stop::Expected { terminate_at }, .. } => terminate_at,
            Life::Up { stop: Stop::Terminated { kill_at }, .. } => kill_at,
            Life::Up { since, heard, stop: Stop::No, .. } => {
                heard.unwrap_or(since).saturating_add(SILENCE_DEADLINE)
            }
            _ => Milliseconds::MAX,
        }
    }

    /// Itself as a service, for the agent to show.
    pub(super) fn service(&self) -> Option<Service> {
        Some(Service {
            name: Name::new(AGENT_NAME).ok()?,
            state: match self.life {
                Life::Up { stop: Stop::No | Stop::Expected { .. }, .. } => ServiceState::Running,
                Life::Up { .. } => ServiceState::Stopping,
                Life::Down { .. } | Life::Starting => ServiceState::Backoff,
                Life::Off => ServiceState::Stopped,
            },
            pid: self.pid().unwrap_or(0),
            restarts: self.restarts(),
            since_ns: self.changed_at.saturating_mul(1_000_000),
            last_wait_status: self.last_wait_status,
        })
    }

    /// How long to wait, doubling with each crash in a row.
    fn pause(&mut self, crashed: bool) -> Milliseconds {
        if !crashed {
            self.short_lives = 0;
            return BACKOFF_FLOOR;
        }
        let factor = 1_u64.checked_shl(self.short_lives.min(DOUBLINGS_MAX)).unwrap_or(1);
        self.short_lives = self.short_lives.saturating_add(1);
        BACKOFF_FLOOR.saturating_mul(factor).min(BACKOFF_MAX)
    }

    fn turn(&mut self, now: Milliseconds, life: Life) {
        self.life = life;
        self.changed_at = now;
    }
}
