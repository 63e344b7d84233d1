//! The only place that blocks: waits for signals, the agent's socket, devices and the next deadline, and turns what came
//! into events.

use std::os::fd::{AsFd, OwnedFd};

use ingot_init_api::End;
use ingot_linux::input::PowerButton;
use ingot_linux::signal::{SignalError, SignalQueue};
use ingot_linux::uevent::Uevents;
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use rustix::time::Timespec;

use crate::act::{self, Scratch};
use crate::kernel::Kernel as _;
use crate::reap::{self, Reaped};
use crate::supervise::{Event, State};
use crate::system::System;

/// Power buttons at most; a laptop has two.
const BUTTONS_MAX: usize = 8;

/// Children collected and messages read in one round at most, so that neither a fork bomb nor a chatty agent keeps the
/// other, or the deadlines, from being seen.
const ROUND_MAX: usize = 256;

/// Everything that is waited on, and what is done with it.
pub struct Loop {
    signals: SignalQueue,
    uevents: Option<Uevents>,
    buttons: Vec<PowerButton>,
    scratch: Scratch,
    /// A round ended early; the next one must not wait.
    hurry: bool,
}

impl Loop {
    /// Takes over all signals.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> Result<Self, SignalError> {
        let buttons = Vec::with_capacity(BUTTONS_MAX);
        Ok(Self {
            signals: SignalQueue::open()?,
            uevents: None,
            buttons,
            scratch: Scratch::default(),
            hurry: false,
        })
    }

    /// Begins to listen for devices. Apart from [`Loop::new`] because the agent should not wait for it.
    pub fn watch_devices(&mut self, system: &System) {
        match Uevents::open() {
            Ok(uevents) => self.uevents = Some(uevents),
            Err(error) => system.warn("power buttons that come later will not be seen", &error),
        }
        PowerButton::open_all(&mut self.buttons, BUTTONS_MAX);
    }

    /// One event from nowhere: time has passed.
    pub fn tick(&mut self, system: &mut System, state: &mut State<OwnedFd>) {
        act::turn(system, state, &mut self.scratch, Event::Tick);
    }

    /// Waits for whatever comes first and handles it.
    pub fn round(&mut self, system: &mut System, state: &mut State<OwnedFd>) {
        self.wait(system, state);
        self.hurry = false;
        self.read_socket(system, state);
        self.read_signals(system, state);
        self.collect_children(system, state);
        self.read_devices(system, state);
        self.tick(system, state);
    }

    fn wait(&self, system: &System, state: &State<OwnedFd>) {
        let left = if self.hurry { 0 } else { state.deadline().saturating_sub(system.now()) };
        let timeout = Timespec {
            tv_sec: left.checked_div(1000).unwrap_or(0).cast_signed(),
            tv_nsec: left.checked_rem(1000).unwrap_or(0).saturating_mul(1_000_000).cast_signed(),
        };
        let none = self.signals.as_fd();
        let mut fds: [PollFd<'_>; BUTTONS_MAX + 3] =
            std::array::from_fn(|_| PollFd::from_borrowed_fd(none, PollFlags::empty()));
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, state.takes_requests());
        wanted.set(PollFlags::OUT, state.outgoing(system.now()).is_some());
        let sources = [
            Some((self.signals.as_fd(), PollFlags::IN)),
            self.uevents.as_ref().map(|uevents| (uevents.as_fd(), PollFlags::IN)),
            system.socket().map(|socket| (socket.as_fd(), wanted)),
        ];
        let buttons = self.buttons.iter().map(|button| (button.as_fd(), PollFlags::IN));
        let all = sources.into_iter().flatten().chain(buttons);
        let mut used: usize = 0;
        for (place, (fd, flags)) in fds.iter_mut().zip(all) {
            *place = PollFd::from_borrowed_fd(fd, flags);
            used = used.saturating_add(1);
        }
        // Whatever it returns, everything is looked at: an early wake-up costs a few calls that find nothing.
        let _ = rustix::event::poll(fds.get_mut(..used).unwrap_or_default(), Some(&timeout));
    }

    fn read_socket(&mut self, system: &mut System, state: &mut State<OwnedFd>) {
        for _ in 0..ROUND_MAX {
            if !state.takes_requests() {
                return;
            }
            let Some(event) = system.receive() else { return };
            act::turn(system, state, &mut self.scratch, event);
        }
        self.hurry = true;
    }

    fn read_signals(&mut self, system: &mut System, state: &mut State<OwnedFd>) {
        for _ in 0..ROUND_MAX {
            let Ok(Some(number)) = self.signals.next() else { return };
            // SIGINT is Ctrl-Alt-Del; SIGPWR comes from a UPS; the others are for whoever can signal PID 1, which is root.
            let how = match Signal::from_named_raw(number) {
                Some(Signal::INT | Signal::TERM) => End::Reboot,
                Some(Signal::POWER) => End::PowerOff,
                _ => continue,
            };
            act::turn(system, state, &mut self.scratch, Event::EndWanted(how));
        }
        self.hurry = true;
    }

    /// Always, not only after SIGCHLD: one signal may stand for many children.
    fn collect_children(&mut self, system: &mut System, state: &mut State<OwnedFd>) {
        for _ in 0..ROUND_MAX {
            let event = match reap::next() {
                Reaped::Child(exit) => Event::Ended(exit),
                Reaped::NoChildren => {
                    return act::turn(system, state, &mut self.scratch, Event::NoChildren);
                }
                Reaped::NoneYet => return,
            };
            act::turn(system, state, &mut self.scratch, event);
        }
        self.hurry = true;
    }

    fn read_devices(&mut self, system: &mut System, state: &mut State<OwnedFd>) {
        let mut pressed = false;
        self.buttons.retain(|button| {
            let state = button.pressed();
            pressed |= *state.as_ref().unwrap_or(&false);
            state.is_ok()
        });
        if pressed {
            act::turn(system, state, &mut self.scratch, Event::EndWanted(End::PowerOff));
        }
        if self.uevents.as_ref().is_some_and(|uevents| uevents.heard_of("input")) {
            PowerButton::open_all(&mut self.buttons, BUTTONS_MAX);
        }
    }
}
