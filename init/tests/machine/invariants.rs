//! What must hold whatever happens, in whatever order: 100,000 random days of a machine.
//!
//! A day is a list of random steps. While it lasts: never two agents ([`crate::fake`] asserts it), no signal for a
//! stranger, tables within bounds, one reply to each request. At its end the faults of the socket are lifted, and every
//! watched exit must be told; then somebody ends the machine, and it must end whatever does not answer.

use std::collections::{BTreeMap, BTreeSet};

use ingot_init::supervise::{BACKOFF_MAX, Event, GRACE_MAX, Helper, RECENT_MAX, UNKNOWN_STATUS};
use ingot_init_api::{
    End, FromInit, Name, Notice, Refusal, Reply, Request, STORED_FDS_MAX, WATCHES_MAX,
};
use proptest::prelude::*;

use crate::fake::{Faults, Kind, Machine};

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Fork { stuck: bool },
    EndProcess { which: usize, status: i32 },
    VanishProcess { which: usize },
    CrashAgent { status: i32 },
    Hello,
    Watch { which: usize, wrong_start: bool },
    WatchEnded { which: usize },
    Acknowledge { which: usize },
    Replay,
    Store { name: u8, fd: u32 },
    Get { name: u8 },
    Drop { name: u8 },
    Ask(Request),
    Malformed,
    CloseSocket,
    FullSocket(bool),
    AgentDoesNotStart(bool),
    IgnoreTerm(bool),
    Press(End),
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Reboot), Just(End::PowerOff), Just(End::Halt), Just(End::Kexec)]
}

fn plain_request() -> impl Strategy<Value = Request> {
    let agent = Name::new("ingotd").expect("valid");
    prop_oneof![
        Just(Request::ServiceAt { index: 0 }),
        (0..3_u32).prop_map(|index| Request::NameAt { index }),
        Just(Request::StartService { name: agent }),
        Just(Request::StopService { name: agent }),
        any::<bool>().prop_map(move |kill| Request::RestartService { name: agent, kill }),
        Just(Request::StoreFd { name: agent }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let short = prop_oneof![0..100_u64, 0..3_000_u64, 0..200_000_u64];
    prop_oneof![
        6 => short.prop_map(Step::Pass),
        6 => prop::bool::weighted(0.1).prop_map(|stuck| Step::Fork { stuck }),
        6 => (0..40_usize, 0..0x1_0000_i32).prop_map(|(which, status)| Step::EndProcess { which, status }),
        1 => (0..40_usize).prop_map(|which| Step::VanishProcess { which }),
        3 => (0..0x1_0000_i32).prop_map(|status| Step::CrashAgent { status }),
        5 => Just(Step::Hello),
        6 => (0..40_usize, prop::bool::weighted(0.1))
            .prop_map(|(which, wrong_start)| Step::Watch { which, wrong_start }),
        2 => (0..40_usize).prop_map(|which| Step::WatchEnded { which }),
        4 => (0..40_usize).prop_map(|which| Step::Acknowledge { which }),
        2 => Just(Step::Replay),
        2 => (0..4_u8, any::<u32>()).prop_map(|(name, fd)| Step::Store { name, fd }),
        1 => (0..4_u8).prop_map(|name| Step::Get { name }),
        1 => (0..4_u8).prop_map(|name| Step::Drop { name }),
        2 => plain_request().prop_map(Step::Ask),
        1 => Just(Step::Malformed),
        1 => Just(Step::CloseSocket),
        2 => any::<bool>().prop_map(Step::FullSocket),
        1 => any::<bool>().prop_map(Step::AgentDoesNotStart),
        1 => any::<bool>().prop_map(Step::IgnoreTerm),
        1 => prop::option::weighted(0.1, end())
            .prop_map(|how| how.map_or(Step::Pass(1), Step::Press)),
    ]
}

/// What goes wrong on the way down.
fn last_faults() -> impl Strategy<Value = Faults> {
    let helper = || {
        prop::option::of(prop_oneof![
            Just(Helper::Sync),
            Just(Helper::Unmount),
            Just(Helper::Detach)
        ])
    };
    let flags = any::<[bool; 5]>();
    (flags, helper(), helper(), prop::collection::vec(end(), 0..3)).prop_map(
        |(flags, stuck_helper, failing_helper, refused_ends)| {
            let [not_start, agent_term, full, no_helpers, others_term] = flags;
            Faults {
                agent_does_not_start: not_start,
                agent_ignores_term: agent_term,
                socket_full: full,
                helpers_do_not_start: no_helpers,
                stuck_helper,
                failing_helper,
                others_ignore_term: others_term,
                refused_ends,
            }
        },
    )
}

/// A process by pid and start time.
type Identity = (i32, u64);

/// What the agent believes, built from the replies it got.
#[derive(Default)]
struct Belief {
    /// Watches that were confirmed.
    watched: BTreeSet<Identity>,
    /// Watches whose reply never came.
    perhaps: BTreeSet<Identity>,
    acknowledged: BTreeSet<Identity>,
    /// Raw status of processes that ended, as the fake kernel knows it.
    ended: BTreeMap<Identity, i32>,
    vanished: BTreeSet<Identity>,
    stored: BTreeMap<Name, u32>,
    /// Questions without an answer yet, of the agent that runs now.
    open: BTreeMap<u32, Request>,
    /// Which agent it is, from 1.
    life: u32,
    asked_to_end: bool,
    /// Ends that were told and not acknowledged.
    told: Vec<Identity>,
}

struct Day {
    machine: Machine,
    belief: Belief,
}

impl Day {
    fn new() -> Self {
        let mut day = Self { machine: Machine::boot(), belief: Belief::default() };
        day.look();
        day
    }

    fn others(&self) -> Vec<Identity> {
        let alive = self.machine.kernel.alive.iter();
        alive.filter(|(_, p)| p.kind == Kind::Other).map(|(pid, p)| (*pid, p.start_time)).collect()
    }

    fn ask(&mut self, request: Request, fd: Option<u32>) {
        let Some(id) = self.machine.send(request, fd) else { return };
        self.belief.open.insert(id, request);
        match (request, fd) {
            (Request::AcknowledgeExit { pid, start_time }, None) => {
                self.belief.acknowledged.insert((pid, start_time));
                self.belief.told.retain(|told| *told != (pid, start_time));
            }
            (Request::StoreFd { name }, Some(fd)) => drop(self.belief.stored.insert(name, fd)),
            (Request::DropFd { name }, None) => drop(self.belief.stored.remove(&name)),
            (Request::RestartService { .. }, _) => {}
            _ => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Pass(time) => self.machine.pass(time),
            // Room is left for the agent and a helper.
            Step::Fork { stuck } if self.others().len() < 5 => {
                let _ = self.machine.kernel.fork(Kind::Other, stuck);
            }
            Step::Fork { .. } => {}
            Step::EndProcess { which, status } => {
                if let Some(process) = pick(&self.others(), which) {
                    self.belief.ended.insert(process, status);
                    self.machine.end(process.0, status);
                }
            }
            Step::VanishProcess { which } => {
                if let Some(process) = pick(&self.others(), which) {
                    self.belief.vanished.insert(process);
                    self.machine.kernel.alive.remove(&process.0);
                }
            }
            Step::CrashAgent { status } => {
                if self.machine.kernel.agent().is_some() {
                    self.machine.crash_agent(status);
                }
            }
            Step::Malformed => {
                if self.machine.kernel.agent().is_some() && self.machine.state.takes_requests() {
                    self.machine.event(Event::Malformed);
                }
            }
            Step::CloseSocket => {
                if self.machine.kernel.agent().is_some() {
                    self.machine.hang_up();
                }
            }
            Step::FullSocket(full) => self.machine.kernel.faults.socket_full = full,
            Step::AgentDoesNotStart(fails) => {
                self.machine.kernel.faults.agent_does_not_start = fails
            }
            Step::IgnoreTerm(ignores) => {
                self.machine.kernel.faults.agent_ignores_term = ignores;
                self.machine.kernel.faults.others_ignore_term = ignores;
            }
            Step::Press(how) => {
                self.belief.asked_to_end = true;
                self.machine.event(Event::EndWanted(how));
            }
            asked => self.step_of_agent(asked),
        }
        self.look();
    }

    /// What the agent asks for.
    fn step_of_agent(&mut self, step: Step) {
        let name = |number: u8| Name::new(&format!("name/{number}")).expect("valid");
        match step {
            Step::Hello => self.ask(Request::Hello, None),
            Step::Watch { which, wrong_start } => {
                if let Some((pid, start_time)) = pick(&self.others(), which) {
                    let start_time = start_time + u64::from(wrong_start) * 1_000_000;
                    self.ask(Request::Watch { pid, start_time }, None);
                }
            }
            Step::WatchEnded { which } => {
                let ended: Vec<Identity> = self.belief.ended.keys().copied().collect();
                if let Some((pid, start_time)) = pick(&ended, which) {
                    self.ask(Request::Watch { pid, start_time }, None);
                }
            }
            Step::Acknowledge { which } => {
                if let Some((pid, start_time)) = pick(&self.belief.told.clone(), which) {
                    self.ask(Request::AcknowledgeExit { pid, start_time }, None);
                }
            }
            Step::Replay => self.ask(Request::ReplayExits, None),
            Step::Store { name: number, fd } => {
                self.ask(Request::StoreFd { name: name(number) }, Some(fd))
            }
            Step::Get { name: number } => self.ask(Request::GetFd { name: name(number) }, None),
            Step::Drop { name: number } => self.ask(Request::DropFd { name: name(number) }, None),
            Step::Ask(request) => self.ask(request, None),
            other => panic!("not a request of the agent: {other:?}"),
        }
    }

    /// Reads what arrived and checks what must always hold.
    fn look(&mut self) {
        let (watches, recent, stored) = self.machine.state.sizes();
        assert!(watches <= WATCHES_MAX && recent <= RECENT_MAX && stored <= STORED_FDS_MAX);
        assert!(
            self.machine.kernel.ends.is_empty() || self.belief.asked_to_end,
            "nobody wanted an end"
        );
        let life = self.machine.kernel.agents_started;
        if life != self.belief.life {
            // Questions of an agent that is gone: whether they were heard is not known.
            for request in std::mem::take(&mut self.belief.open).into_values() {
                if let Request::Watch { pid, start_time } = request {
                    self.belief.perhaps.insert((pid, start_time));
                }
            }
            self.belief.told.clear();
            self.belief.life = life;
        }
        for (message, fd) in std::mem::take(&mut self.machine.kernel.inbox) {
            match message {
                FromInit::Reply { id: 0, reply } => {
                    assert_eq!(reply, Reply::Refused(Refusal::Malformed))
                }
                FromInit::Reply { id, reply } => {
                    let request = self.belief.open.remove(&id).expect("one reply to each request");
                    self.replied(request, reply, fd);
                }
                FromInit::Notice(Notice::Exit(exit)) => self.exit_told(exit),
                FromInit::Notice(Notice::Stopping { .. }) => assert!(self.belief.asked_to_end),
            }
        }
    }

    fn replied(&mut self, request: Request, reply: Reply, fd: Option<u32>) {
        match (request, reply) {
            (Request::Watch { pid, start_time }, Reply::Done) => {
                self.belief.watched.insert((pid, start_time));
            }
            (Request::GetFd { .. }, Reply::Fd) => assert!(fd.is_some()),
            (_, reply) => assert!(fd.is_none(), "{reply:?} came with a descriptor"),
        }
    }

    fn exit_told(&mut self, exit: ingot_init_api::Exit) {
        let process = (exit.pid, exit.start_time);
        let belief = &mut self.belief;
        // The confirmation may still be on its way, or have been lost with an agent.
        let asked = Request::Watch { pid: exit.pid, start_time: exit.start_time };
        let may = belief.watched.contains(&process)
            || belief.perhaps.contains(&process)
            || belief.open.values().any(|open| *open == asked);
        assert!(may, "an exit was told that nobody watches: {exit:?}");
        assert!(!belief.acknowledged.contains(&process), "an acknowledged exit was told again");
        if !belief.told.contains(&process) {
            belief.told.push(process);
        }
        // Processes that ended on the way down have no entry.
        if let Some(status) = belief.ended.get(&process) {
            assert_eq!(exit.wait_status, *status);
        } else if belief.vanished.contains(&process) {
            assert_eq!(exit.wait_status, UNKNOWN_STATUS);
        }
    }

    /// A healthy agent comes and is told everything.
    fn heal_and_check(&mut self) {
        self.machine.kernel.faults = Faults::default();
        self.machine.event(Event::Tick);
        self.look();
        if let Some(how) = self.machine.kernel.ended {
            return assert!(self.belief.asked_to_end, "{how:?}");
        }
        if self.belief.asked_to_end {
            return;
        }
        if self.machine.kernel.agent().is_some() {
            self.machine.crash_agent(9);
            self.look();
        }
        self.machine.pass(BACKOFF_MAX);
        self.look();
        assert!(self.machine.kernel.agent().is_some(), "an agent runs again");
        self.ask(Request::Hello, None);
        self.look();
        assert!(self.belief.open.is_empty(), "every question is answered");
        let belief = &self.belief;
        let due = belief
            .watched
            .iter()
            .filter(|process| {
                belief.ended.contains_key(process) || belief.vanished.contains(process)
            })
            .filter(|process| !belief.acknowledged.contains(process));
        for process in due {
            assert!(belief.told.contains(process), "the exit of {process:?} is lost");
        }
        for (name, fd) in belief.stored.clone() {
            let got = self.machine.ask_with(Request::GetFd { name }, None);
            assert_eq!(got, Some((Reply::Fd, Some(fd))), "{name} is not what was stored");
            self.machine.kernel.inbox.clear();
        }
    }

    /// Whatever does not answer, the machine ends within grace and deadlines.
    fn end(&mut self, faults: Faults, how: End) {
        self.machine.kernel.faults = faults;
        self.belief.asked_to_end = true;
        self.machine.event(Event::EndWanted(how));
        self.machine.pass(GRACE_MAX + 60_000);
        assert!(self.machine.is_over(), "the machine did not end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_breaks_what_pid_1_promises(
        steps in prop::collection::vec(step(), 1..40),
        faults in last_faults(),
        how in end(),
    ) {
        let mut day = Day::new();
        for step in steps {
            day.step(step);
        }
        day.heal_and_check();
        day.end(faults, how);
    }
}

fn pick(list: &[Identity], which: usize) -> Option<Identity> {
    list.get(which.checked_rem(list.len())?).copied()
}
