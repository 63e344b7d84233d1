//! Ending containers: hook, signal, grace, SIGKILL; one, or all in their order.

use std::time::Duration;

use tokio::time::Instant;

use super::PodTask;
use super::live::{Happened, Helper};
use crate::cgroup::Cgroup;
use crate::container;
use crate::event::{Reason, Severity};
use crate::lifecycle;
use crate::record::RunPhase;
use crate::report::chain;

/// Time for processes to go after SIGKILL, before it is sent again.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// What a container has after its hook has used up the grace, or when its turn comes late: the kubelet's.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// A container that is being stopped.
pub(super) struct Stop {
    /// The hook before the end, while it is under way; its signal has not been sent.
    hook: Option<Helper>,
    /// When SIGKILL is due, or is sent again.
    kill_at: Instant,
}

impl PodTask {
    /// Tells those to stop whose turn it is.
    pub(super) fn stop_next(&mut self) {
        let grace = match &self.halt {
            Some((grace, _)) => *grace,
            None => Duration::from_secs(self.pod.spec.termination_grace_period_seconds.into()),
        };
        let now = Instant::now();
        let until = *self.stop_until.get_or_insert(now + grace);
        for index in lifecycle::next_to_stop(&self.record) {
            // Who waited for others has what they left, but never nothing.
            let own = until.saturating_duration_since(now);
            self.begin_stop(index, if grace.is_zero() { grace } else { own.max(GRACE_MIN) });
        }
    }

    /// There is less time than was said.
    pub(super) fn hurry(&mut self, grace: Duration) {
        let until = Instant::now() + grace;
        self.stop_until = self.stop_until.map(|at| at.min(until));
        for stop in self.live.iter_mut().filter_map(|live| live.stop.as_mut()) {
            stop.kill_at = stop.kill_at.min(until);
        }
    }

    /// Begins to stop a container; one that is being stopped already goes on.
    pub(super) fn begin_stop(&mut self, index: usize, grace: Duration) {
        let Some(run) = self.record.containers.get(index).and_then(|c| c.run.as_ref()) else {
            return;
        };
        let (id, is_running) = (run.id.clone(), matches!(run.phase, RunPhase::Started { .. }));
        if !is_running || self.live.get(index).is_none_or(|live| live.stop.is_some()) {
            return;
        }
        let pre_stop = self.pod.container(index).and_then(|c| c.lifecycle.pre_stop.clone());
        let hook = pre_stop.filter(|_| !grace.is_zero()).map(|hook| {
            self.spawn_hook(index, &id, hook, |index, id, result| Happened::PreStop {
                index,
                id,
                result,
            })
        });
        let asked = hook.is_none();
        if let Some(live) = self.live.get_mut(index) {
            live.probes.clear();
            live.post_start = None;
            live.stop = Some(Stop { hook, kill_at: Instant::now() + grace });
        }
        if asked {
            self.send_stop_signal(index);
        }
    }

    /// The hook is over: now the signal.
    pub(super) fn take_pre_stop(&mut self, index: usize, id: &str, result: Result<(), String>) {
        if !self.is_current(index, id) {
            return;
        }
        if let Err(message) = result {
            let name = self.name(index);
            self.event(Reason::PreStopFailed, Severity::Warning, Some(&name), message);
        }
        let stop = self.live.get_mut(index).and_then(|live| live.stop.as_mut());
        let Some(stop) = stop else { return };
        if stop.hook.take().is_some() {
            stop.kill_at = stop.kill_at.max(Instant::now() + GRACE_MIN);
            self.send_stop_signal(index);
        }
    }

    /// Does what is due for containers that are being stopped. Returns when to look again.
    pub(super) fn press_stops(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let (mut late_hooks, mut to_kill) = (Vec::new(), Vec::new());
        let mut next: Option<Instant> = None;
        for (index, live) in self.live.iter_mut().enumerate() {
            let Some(stop) = &mut live.stop else { continue };
            if stop.kill_at <= now && stop.hook.take().is_some() {
                stop.kill_at = now + GRACE_MIN;
                late_hooks.push(index);
            } else if stop.kill_at <= now {
                stop.kill_at = now + KILL_AGAIN;
                to_kill.push(index);
            }
            next = Some(next.map_or(stop.kill_at, |at| at.min(stop.kill_at)));
        }
        late_hooks.into_iter().for_each(|index| self.send_stop_signal(index));
        to_kill.into_iter().for_each(|index| self.kill(index));
        next
    }

    fn send_stop_signal(&self, index: usize) {
        let Some(run) = self.record.containers.get(index).and_then(|c| c.run.as_ref()) else {
            return;
        };
        let RunPhase::Started { pid, start_time } = run.phase else { return };
        if let Err(error) = container::signal((pid, start_time), run.stop_signal) {
            // It has just ended; its exit is on the way.
            tracing::debug!(pid, error = chain(&error), "terminate");
        }
    }

    /// SIGKILL to everything in a container.
    pub(super) fn kill(&self, index: usize) {
        let Some(run) = self.record.containers.get(index).and_then(|c| c.run.as_ref()) else {
            return;
        };
        let pod = Cgroup::of_pod(&self.context.paths().cgroup, &self.record.pod.uid);
        if let Err(error) = pod.of_container(&run.id).kill() {
            tracing::error!(error = chain(&error), "kill container");
        }
    }
}
