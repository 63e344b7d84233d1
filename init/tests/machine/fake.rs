//! A kernel in memory with one agent, other processes and helpers, all of which can be made to misbehave.
//!
//! [`Machine`] couples it with the real policy and the real [`turn`]; time passes only when a test says so.

use std::collections::{BTreeMap, VecDeque};

use ingot_init::act::{Scratch, turn};
use ingot_init::kernel::{Kernel, Sent};
use ingot_init::supervise::{Asked, Event, Helper, Line, Milliseconds, State};
use ingot_init_api::{End, Exit, FromInit, Notice, Reply, Request};

/// Wait status of a process ended by SIGTERM and by SIGKILL.
pub(crate) const TERMINATED: i32 = 15;
pub(crate) const KILLED: i32 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Agent,
    Other,
    Helper(Helper),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) start_time: u64,
    pub(crate) kind: Kind,
    /// Not even SIGKILL ends it, as one that waits for a dead disk.
    pub(crate) stuck: bool,
}

/// What the machine does wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) agent_does_not_start: bool,
    pub(crate) agent_ignores_term: bool,
    pub(crate) socket_full: bool,
    pub(crate) helpers_do_not_start: bool,
    pub(crate) stuck_helper: Option<Helper>,
    pub(crate) failing_helper: Option<Helper>,
    pub(crate) others_ignore_term: bool,
    pub(crate) refused_ends: Vec<End>,
}

pub(crate) struct Fake {
    pub(crate) clock: Milliseconds,
    pub(crate) faults: Faults,
    pub(crate) alive: BTreeMap<i32, Process>,
    pub(crate) zombies: VecDeque<Exit>,
    /// What the agent that runs now has received.
    pub(crate) inbox: Vec<(FromInit, Option<u32>)>,
    pub(crate) socket: bool,
    /// The agent that runs now closed its end.
    pub(crate) agent_hung_up: bool,
    pub(crate) agents_started: u32,
    pub(crate) fed_at: Vec<Milliseconds>,
    pub(crate) helpers: Vec<Helper>,
    pub(crate) signals: Vec<(i32, bool)>,
    pub(crate) ends: Vec<End>,
    pub(crate) ended: Option<End>,
    pub(crate) gave_up: bool,
    pub(crate) lines: Vec<Line>,
    pub(crate) progress_shown: bool,
    next_start_time: u64,
}

/// The lowest free pid is given, so that each is reused at once.
const PIDS: std::ops::RangeInclusive<i32> = 2..=9;

impl Fake {
    fn new() -> Self {
        Self {
            clock: 1_000,
            faults: Faults::default(),
            alive: BTreeMap::new(),
            zombies: VecDeque::new(),
            inbox: Vec::new(),
            socket: false,
            agent_hung_up: false,
            agents_started: 0,
            fed_at: Vec::new(),
            helpers: Vec::new(),
            signals: Vec::new(),
            ends: Vec::new(),
            ended: None,
            gave_up: false,
            lines: Vec::new(),
            progress_shown: false,
            next_start_time: 100,
        }
    }

    /// A new process, `None` when all pids are in use.
    pub(crate) fn fork(&mut self, kind: Kind, stuck: bool) -> Option<i32> {
        let free = |pid: &i32| {
            !self.alive.contains_key(pid) && !self.zombies.iter().any(|zombie| zombie.pid == *pid)
        };
        let pid = PIDS.clone().find(free)?;
        self.next_start_time += 1;
        self.alive.insert(pid, Process { start_time: self.next_start_time, kind, stuck });
        Some(pid)
    }

    /// The process ends and waits to be collected.
    pub(crate) fn end(&mut self, pid: i32, wait_status: i32) {
        if let Some(process) = self.alive.remove(&pid) {
            let ended_at_ns = self.clock * 1_000_000;
            self.zombies.push_back(Exit {
                pid,
                start_time: process.start_time,
                wait_status,
                ended_at_ns,
            });
        }
    }

    pub(crate) fn agent(&self) -> Option<i32> {
        self.alive.iter().find(|(_, process)| process.kind == Kind::Agent).map(|(pid, _)| *pid)
    }
}

impl Kernel for Fake {
    type Fd = u32;

    fn now(&self) -> Milliseconds {
        self.clock
    }

    fn wall_clock_ns(&self) -> u64 {
        self.clock * 1_000_000
    }

    fn start_time(&self, pid: i32) -> Option<u64> {
        let zombie =
            || self.zombies.iter().find(|zombie| zombie.pid == pid).map(|zombie| zombie.start_time);
        self.alive.get(&pid).map(|process| process.start_time).or_else(zombie)
    }

    fn start_agent(&mut self) -> Option<i32> {
        assert_eq!(self.agent(), None, "a second agent was started");
        if self.faults.agent_does_not_start {
            return None;
        }
        self.agents_started += 1;
        self.socket = true;
        self.agent_hung_up = false;
        self.inbox.clear();
        self.fork(Kind::Agent, false)
    }

    fn signal_agent(&mut self, pid: i32, kill: bool) {
        let ours = self.alive.get(&pid).is_some_and(|process| process.kind == Kind::Agent);
        let zombie = self.zombies.iter().any(|zombie| zombie.pid == pid);
        assert!(ours || zombie, "a signal for the agent hit somebody else");
        self.signals.push((pid, kill));
        if kill || !self.faults.agent_ignores_term {
            self.end(pid, if kill { KILLED } else { TERMINATED });
        }
    }

    fn close_socket(&mut self) {
        self.socket = false;
    }

    fn send(&mut self, message: &FromInit, fd: Option<&u32>) -> Sent {
        if !self.socket || self.agent_hung_up || self.agent().is_none() {
            return Sent::Lost;
        }
        if self.faults.socket_full {
            return Sent::Full;
        }
        let message = FromInit::decode(&message.encode()).expect("what PID 1 sends can be read");
        self.inbox.push((message, fd.copied()));
        Sent::Taken
    }

    fn signal_everyone(&mut self, kill: bool) {
        let survives = |process: &Process| match process.kind {
            _ if process.stuck => true,
            Kind::Agent => !kill && self.faults.agent_ignores_term,
            Kind::Other | Kind::Helper(_) => !kill && self.faults.others_ignore_term,
        };
        let hit: Vec<i32> = self
            .alive
            .iter()
            .filter(|(_, process)| !survives(process))
            .map(|(pid, _)| *pid)
            .collect();
        for pid in hit {
            self.end(pid, if kill { KILLED } else { TERMINATED });
        }
    }

    fn start_helper(&mut self, helper: Helper) -> Option<i32> {
        self.helpers.push(helper);
        if self.faults.helpers_do_not_start {
            return None;
        }
        let stuck = self.faults.stuck_helper == Some(helper);
        let pid = self.fork(Kind::Helper(helper), stuck)?;
        if !stuck {
            self.end(pid, if self.faults.failing_helper == Some(helper) { 1 << 8 } else { 0 });
        }
        Some(pid)
    }

    fn feed_watchdog(&mut self) {
        self.fed_at.push(self.clock);
    }

    fn end_machine(&mut self, how: End) -> bool {
        self.ends.push(how);
        if self.faults.refused_ends.contains(&how) {
            return false;
        }
        self.ended = Some(how);
        true
    }

    fn give_up(&mut self) {
        self.gave_up = true;
    }

    fn show_progress(&mut self) {
        self.progress_shown = true;
    }

    fn log(&mut self, line: Line) {
        assert!(!line.to_string().is_empty());
        self.lines.push(line);
    }
}

/// The fake kernel with the real policy on top.
pub(crate) struct Machine {
    pub(crate) kernel: Fake,
    pub(crate) state: State<u32>,
    scratch: Scratch,
    next_id: u32,
}

impl Machine {
    /// A machine whose agent was just started.
    pub(crate) fn boot() -> Self {
        let kernel = Fake::new();
        let state = State::new(kernel.clock);
        let mut machine = Self { kernel, state, scratch: Scratch::default(), next_id: 0 };
        machine.event(Event::Tick);
        machine
    }

    /// The same, and its agent has said hello.
    pub(crate) fn up() -> Self {
        let mut machine = Self::boot();
        assert!(matches!(machine.ask(Request::Hello), Some(Reply::Hello { restarts: 0, .. })));
        machine
    }

    /// Whether anything can still happen.
    pub(crate) fn is_over(&self) -> bool {
        self.kernel.ended.is_some() || self.kernel.gave_up
    }

    /// One event and what PID 1's loop sees because of it.
    pub(crate) fn event(&mut self, event: Event<u32>) {
        if self.is_over() {
            return;
        }
        turn(&mut self.kernel, &mut self.state, &mut self.scratch, event);
        self.collect();
    }

    /// As the loop does in each round.
    fn collect(&mut self) {
        while !self.is_over() {
            match self.kernel.zombies.pop_front() {
                Some(exit) => {
                    turn(&mut self.kernel, &mut self.state, &mut self.scratch, Event::Ended(exit));
                }
                None => break,
            }
        }
        if self.kernel.alive.is_empty() && !self.is_over() {
            turn(&mut self.kernel, &mut self.state, &mut self.scratch, Event::NoChildren);
            if !self.kernel.zombies.is_empty() {
                self.collect();
            }
        }
    }

    /// The agent closes its end of the socket and lives on, which wakes PID 1 up until it has closed its own.
    pub(crate) fn hang_up(&mut self) {
        self.kernel.agent_hung_up = true;
        if self.state.takes_requests() {
            // The loop reads, and finds the end.
            self.event(Event::SocketLost);
        } else {
            self.event(Event::Tick);
        }
        assert!(self.is_over() || !self.kernel.socket, "PID 1 spins: the socket is still open");
    }

    /// Time passes; PID 1 wakes up at each of its deadlines.
    pub(crate) fn pass(&mut self, time: Milliseconds) {
        let target = self.kernel.clock + time;
        while !self.is_over() {
            let deadline = self.state.deadline().max(self.kernel.clock);
            if deadline > target {
                break;
            }
            // A deadline that has come must lead somewhere, or the loop would spin.
            self.kernel.clock = deadline;
            self.event(Event::Tick);
            let next = self.state.deadline();
            assert!(
                self.is_over() || next > deadline,
                "deadline {next} is still there at {deadline}"
            );
        }
        self.kernel.clock = target;
        self.event(Event::Tick);
    }

    /// A process ends.
    pub(crate) fn end(&mut self, pid: i32, wait_status: i32) {
        self.kernel.end(pid, wait_status);
        self.collect();
    }

    /// The agent dies.
    pub(crate) fn crash_agent(&mut self, wait_status: i32) {
        let agent = self.kernel.agent().expect("an agent runs");
        self.end(agent, wait_status);
    }

    /// The agent asks, and gives the id. `None` when there is no agent or PID 1 does not read now.
    pub(crate) fn send(&mut self, request: Request, fd: Option<u32>) -> Option<u32> {
        if self.is_over()
            || self.kernel.agent().is_none()
            || !self.kernel.socket
            || self.kernel.agent_hung_up
            || !self.state.takes_requests()
        {
            return None;
        }
        self.next_id += 1;
        let id = self.next_id;
        let alive_since = match request {
            Request::Watch { pid, .. } => self.kernel.start_time(pid),
            _ => None,
        };
        self.event(Event::Request(Asked { id, request, fd, alive_since }));
        Some(id)
    }

    /// The agent asks and reads the answer, when it has come.
    pub(crate) fn ask(&mut self, request: Request) -> Option<Reply> {
        self.ask_with(request, None).map(|(reply, _)| reply)
    }

    /// The same, with descriptors.
    pub(crate) fn ask_with(
        &mut self,
        request: Request,
        fd: Option<u32>,
    ) -> Option<(Reply, Option<u32>)> {
        let asked = self.send(request, fd)?;
        self.kernel.inbox.iter().find_map(|(message, fd)| match message {
            FromInit::Reply { id, reply } if *id == asked => Some((*reply, *fd)),
            _ => None,
        })
    }

    /// Exits the agent that runs now was told, in order, and forgets them.
    pub(crate) fn told_exits(&mut self) -> Vec<Exit> {
        let exits = self.kernel.inbox.iter().filter_map(|(message, _)| match message {
            FromInit::Notice(Notice::Exit(exit)) => Some(*exit),
            _ => None,
        });
        let exits = exits.collect();
        self.kernel
            .inbox
            .retain(|(message, _)| !matches!(message, FromInit::Notice(Notice::Exit(_))));
        exits
    }

    /// How long the agent that runs now was given for stopping pods.
    pub(crate) fn told_grace(&self) -> Option<u32> {
        self.kernel.inbox.iter().find_map(|(message, _)| match message {
            FromInit::Notice(Notice::Stopping { grace_ms, .. }) => Some(*grace_ms),
            _ => None,
        })
    }

    /// Whether the agent that runs now was told that the machine ends.
    pub(crate) fn told_of_end(&self) -> bool {
        self.kernel
            .inbox
            .iter()
            .any(|(message, _)| matches!(message, FromInit::Notice(Notice::Stopping { .. })))
    }
}
