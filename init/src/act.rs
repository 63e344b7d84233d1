//! Carries out what the policy decided: one [`turn`] for each event. The only place that acts; every failure goes back to
//! the policy as an event.

use crate::kernel::{Kernel, Sent};
use crate::supervise::{Action, Event, State};

/// Room for the actions of one turn. More are possible only after more failures in a row than there are steps; the list
/// would then grow, which is slow and not wrong.
const ACTIONS_EXPECTED: usize = 64;

/// The list that [`turn`] works through, kept between turns so that it is allocated once.
pub struct Scratch(Vec<Action>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Vec::with_capacity(ACTIONS_EXPECTED))
    }
}

/// Handles one event and all that follows from it at once.
pub fn turn<K: Kernel>(
    kernel: &mut K,
    state: &mut State<K::Fd>,
    scratch: &mut Scratch,
    event: Event<K::Fd>,
) {
    let actions = &mut scratch.0;
    actions.clear();
    state.handle(kernel.now(), event, actions);
    // A reply goes out before what it allowed is done: the answer to "end the machine" must not be lost to the end.
    flush(kernel, state, actions);
    let mut next: usize = 0;
    while let Some(action) = actions.get(next).copied() {
        next = next.saturating_add(1);
        if let Some(event) = perform(kernel, state, action, actions) {
            state.handle(kernel.now(), event, actions);
        }
        flush(kernel, state, actions);
    }
}

fn perform<K: Kernel>(
    kernel: &mut K,
    state: &mut State<K::Fd>,
    action: Action,
    actions: &mut Vec<Action>,
) -> Option<Event<K::Fd>> {
    match action {
        Action::StartAgent => {
            let started = kernel.start_agent().map(|pid| Event::AgentStarted { pid });
            return Some(started.unwrap_or(Event::AgentNotStarted));
        }
        Action::SignalAgent { pid, kill } => kernel.signal_agent(pid, kill),
        Action::CloseSocket => kernel.close_socket(),
        Action::CheckWatched => check_watched(kernel, state, actions),
        Action::TerminateEveryone => kernel.signal_everyone(false),
        Action::KillEveryone => kernel.signal_everyone(true),
        Action::StartHelper(helper) => {
            let started = kernel.start_helper(helper).map(|pid| Event::HelperStarted { pid });
            return Some(started.unwrap_or(Event::HelperNotStarted));
        }
        Action::FeedWatchdog => kernel.feed_watchdog(),
        Action::EndMachine(how) => {
            if !kernel.end_machine(how) {
                return Some(Event::EndRefused);
            }
        }
        Action::GiveUp => kernel.give_up(),
        Action::ShowProgress => kernel.show_progress(),
        Action::Log(line) => kernel.log(line),
    }
    None
}

/// A watched process that is gone without having been our child at the end would be waited for for ever.
fn check_watched<K: Kernel>(kernel: &mut K, state: &mut State<K::Fd>, actions: &mut Vec<Action>) {
    let gone: Vec<(i32, u64)> = state
        .living_watches()
        .filter(|(pid, start_time)| kernel.start_time(*pid) != Some(*start_time))
        .collect();
    for (pid, start_time) in gone {
        let noticed_at_ns = kernel.wall_clock_ns();
        state.handle(kernel.now(), Event::Vanished { pid, start_time, noticed_at_ns }, actions);
    }
}

/// Sends as much as the socket takes.
fn flush<K: Kernel>(kernel: &mut K, state: &mut State<K::Fd>, actions: &mut Vec<Action>) {
    let now = kernel.now();
    while let Some(outgoing) = state.outgoing(now) {
        let slot = outgoing.slot;
        match kernel.send(&outgoing.message, outgoing.fd) {
            Sent::Taken => state.sent(slot),
            Sent::Full => return,
            // With a reply pending nobody reads the socket, so its end is only seen here. Nothing is outgoing after this.
            Sent::Lost => state.handle(now, Event::SocketLost, actions),
        }
    }
}
