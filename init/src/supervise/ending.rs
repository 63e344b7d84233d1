//! The ordered end: ask, terminate, kill, sync, unmount, detach, `reboot(2)`. Every step has a deadline, none can stop the
//! next, and there is no way back.

use ingot_init_api::End;

use super::{Action, Helper, Line, Milliseconds, State};

/// What the agent gets when a person ends the machine by button or Ctrl-Alt-Del: as long as the kubelet gives a pod.
pub const BUTTON_GRACE: Milliseconds = 30_000;

/// More than this the agent cannot ask for.
pub const GRACE_MAX: Milliseconds = 600_000;

/// A second press counts only this long after the first: buttons bounce.
const PRESS_AGAIN_AFTER: Milliseconds = 1_000;

/// A step of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The agent stops pods.
    Asking,
    /// All processes were sent SIGTERM.
    Terminating,
    /// All processes were sent SIGKILL.
    Killing,
    /// A child writes out what is not yet on disk.
    Syncing,
    /// A child unmounts.
    Unmounting,
    /// A child detaches what could not be unmounted.
    Detaching,
    /// `reboot(2)`.
    Final,
}

impl Phase {
    /// What an operator reads on the console.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Asking => "the agent to stop pods",
            Self::Terminating => "processes to end after SIGTERM",
            Self::Killing => "processes to end after SIGKILL",
            Self::Syncing => "disks to be written",
            Self::Unmounting => "file systems to be unmounted",
            Self::Detaching => "file systems to be detached",
            Self::Final => "the kernel",
        }
    }

    /// How long at most; the grace of [`Phase::Asking`] is the caller's. What follows was chosen so that the whole of it
    /// stays below the 60 s of the watchdog, should the loop itself stop turning.
    fn deadline(self) -> Milliseconds {
        match self {
            Self::Asking => GRACE_MAX,
            Self::Terminating => 5_000,
            Self::Killing => 3_000,
            Self::Syncing => 20_000,
            Self::Unmounting => 10_000,
            Self::Detaching => 5_000,
            Self::Final => 5_000,
        }
    }
}

/// An end that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How.
    pub how: End,
    /// The step.
    pub phase: Phase,
    /// When the next step is taken whatever has happened.
    pub until: Milliseconds,
    began: Milliseconds,
    helper: Option<i32>,
}

impl<F> State<F> {
    /// A person wants it; a second time means: do not wait for pods.
    pub(super) fn end_wanted(&mut self, now: Milliseconds, how: End, actions: &mut Vec<Action>) {
        match self.ending {
            None => self.begin_ending(now, how, BUTTON_GRACE, actions),
            Some(ending) if now >= ending.began.saturating_add(PRESS_AGAIN_AFTER) => {
                self.ready_to_end(now, actions);
            }
            Some(_) => {}
        }
    }

    pub(super) fn begin_ending(
        &mut self,
        now: Milliseconds,
        how: End,
        grace: Milliseconds,
        actions: &mut Vec<Action>,
    ) {
        let grace = grace.min(GRACE_MAX);
        let until = now.saturating_add(grace);
        let phase = Phase::Asking;
        self.ending = Some(Ending { how, phase, until, began: now, helper: None });
        actions.push(Action::ShowProgress);
        actions.push(Action::Log(Line::Ending { how, phase, at_most: grace }));
    }

    pub(super) fn ready_to_end(&mut self, now: Milliseconds, actions: &mut Vec<Action>) {
        if self.ending.is_some_and(|ending| ending.phase == Phase::Asking) {
            self.enter(now, Phase::Terminating, actions);
        }
    }

    pub(super) fn no_children(&mut self, now: Milliseconds, actions: &mut Vec<Action>) {
        let waits = [Phase::Terminating, Phase::Killing];
        if self.ending.is_some_and(|ending| waits.contains(&ending.phase)) {
            self.enter(now, Phase::Syncing, actions);
        }
    }

    pub(super) fn helper_started(&mut self, pid: i32) {
        if let Some(ending) = &mut self.ending {
            ending.helper = Some(pid);
        }
    }

    /// Whether the child was the helper of this step.
    pub(super) fn helper_ended(
        &mut self,
        now: Milliseconds,
        pid: i32,
        wait_status: i32,
        actions: &mut Vec<Action>,
    ) -> bool {
        let is_helper = self.ending.is_some_and(|ending| ending.helper == Some(pid));
        if is_helper {
            self.helper_done(now, wait_status == 0, actions);
        }
        is_helper
    }

    pub(super) fn helper_done(&mut self, now: Milliseconds, well: bool, actions: &mut Vec<Action>) {
        match self.ending.map(|ending| ending.phase) {
            Some(Phase::Syncing) => self.enter(now, Phase::Unmounting, actions),
            Some(Phase::Unmounting) if !well => self.enter(now, Phase::Detaching, actions),
            Some(Phase::Unmounting | Phase::Detaching) => self.enter(now, Phase::Final, actions),
            _ => {}
        }
    }

    /// Takes the next step when the time of this one is over.
    pub(super) fn ending_time(&mut self, now: Milliseconds, actions: &mut Vec<Action>) {
        let Some(ending) = self.ending.filter(|ending| now >= ending.until) else { return };
        // A reboot(2) that did not come back is given its time again; there is nothing better to do.
        if ending.phase != Phase::Final {
            actions.push(Action::Log(Line::StepTimedOut(ending.phase)));
        }
        let next = match ending.phase {
            Phase::Asking => Phase::Terminating,
            Phase::Terminating => Phase::Killing,
            Phase::Killing => Phase::Syncing,
            Phase::Syncing => Phase::Unmounting,
            Phase::Unmounting => Phase::Detaching,
            Phase::Detaching | Phase::Final => Phase::Final,
        };
        self.enter(now, next, actions);
    }

    /// The kernel refused: fall back to what does least harm.
    pub(super) fn end_refused(&mut self, now: Milliseconds, actions: &mut Vec<Action>) {
        let Some(ending) = &mut self.ending else { return };
        actions.push(Action::Log(Line::EndRefused(ending.how)));
        ending.how = match ending.how {
            End::Kexec => End::Reboot,
            End::PowerOff => End::Halt,
            End::Reboot | End::Halt => return actions.push(Action::GiveUp),
        };
        self.enter(now, Phase::Final, actions);
    }

    fn enter(&mut self, now: Milliseconds, phase: Phase, actions: &mut Vec<Action>) {
        let Some(ending) = &mut self.ending else { return };
        let at_most = phase.deadline();
        ending.phase = phase;
        ending.helper = None;
        ending.until = now.saturating_add(at_most);
        let how = ending.how;
        actions.push(Action::Log(Line::Ending { how, phase, at_most }));
        actions.push(match phase {
            Phase::Asking => return,
            Phase::Terminating => Action::TerminateEveryone,
            Phase::Killing => Action::KillEveryone,
            Phase::Syncing => Action::StartHelper(Helper::Sync),
            Phase::Unmounting => Action::StartHelper(Helper::Unmount),
            Phase::Detaching => Action::StartHelper(Helper::Detach),
            Phase::Final => Action::EndMachine(how),
        });
    }
}
