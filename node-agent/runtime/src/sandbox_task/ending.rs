//! Ending: containers that are stopped, ended by themselves or are removed, and the sandbox after them.
//!
//! Order when a container has ended, each step repeated by the next agent if this one is killed before the last: nothing of
//! it runs any more, its output is drained, the end is written down, everybody is told, the disk has it, PID 1 forgets it.

use std::time::Duration;

use ingot_linux::process::Pidfd;
use tokio::time::Instant;

use super::{Ended, KILL_AGAIN, KILLS_MAX, RETRY, Reply, SandboxTask, Stop, answer};
use crate::cgroup::Cgroup;
use crate::container;
use crate::durable;
use crate::report::chain;
use crate::run::{self, Ending};
use crate::sandbox;
use crate::sandboxes::{
    CallError, ContainerExit, ContainerPhase, Lifecycle, Process, SYNC_AFTER, SandboxPhase, record,
};

impl SandboxTask {
    /// Asks a container to end. One that does not run has ended.
    pub(super) fn stop_container(&mut self, id: &str, grace: Duration, reply: Reply<()>) {
        let Some(live) = self.find(id) else {
            // Removed meanwhile.
            let _ = reply.send(Ok(()));
            return;
        };
        let Some(process) = live.container.process().filter(|_| live.container.is_running()) else {
            let _ = reply.send(Ok(()));
            return;
        };
        live.stoppers.push(reply);
        let kill_at = Instant::now() + grace;
        let first = live.stop.is_none();
        let stop = live.stop.get_or_insert(Stop { kill_at, kills: 0 });
        stop.kill_at = stop.kill_at.min(kill_at);
        if first && !grace.is_zero() {
            let signal = live.container.stop_signal;
            if let Err(error) = container::signal(process.into(), signal) {
                // It has just ended, and its exit is on the way; or the image names a signal that is none.
                tracing::debug!(id, %error, "ask container to end");
            }
        }
    }

    /// Has a container removed, once nothing of it runs.
    pub(super) fn remove_container(&mut self, id: &str, reply: Reply<()>) {
        let Some(live) = self.find(id) else {
            let _ = reply.send(Ok(()));
            return;
        };
        live.removers.push(reply);
        live.change(|c| c.removing = true);
        let container = live.container.clone();
        self.retry_at = None;
        if container.phase == ContainerPhase::Exited {
            // It is removed next, and that begins with its record.
            return;
        }
        if let Err(error) = self.records.save_container(&container) {
            tracing::error!(error = chain(&error), "save container record");
        }
    }

    /// Does what is due. True when nothing of the sandbox is left.
    pub(super) async fn progress(&mut self) -> bool {
        let now = Instant::now();
        let ending = !matches!(self.sandbox.phase, SandboxPhase::Creating | SandboxPhase::Ready);
        let mut due = Vec::new();
        for live in &mut self.containers {
            if live.container.process().is_none() {
                continue;
            }
            let at_once = ending || live.container.removing;
            if at_once && live.stop.is_none_or(|stop| stop.kills == 0) {
                live.stop = Some(Stop { kill_at: now, kills: 0 });
            }
            if let Some(stop) = live.stop.as_mut().filter(|stop| stop.kill_at <= now) {
                stop.kills += 1;
                stop.kill_at = now + KILL_AGAIN;
                due.push((live.container.id.clone(), stop.kills));
            }
        }
        for (id, kills) in due {
            self.kill(&id);
            if kills > KILLS_MAX {
                self.report_unkillable(&id);
            }
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        self.retry_at = None;
        self.remove_ended(false).await;
        if !ending || self.containers.iter().any(|live| live.container.process().is_some()) {
            return false;
        }
        self.finish().await
    }

    /// Nothing runs in a sandbox that is to end: takes it apart, and forgets it if that is wanted.
    async fn finish(&mut self) -> bool {
        if !self.torn_down {
            let down = self.tear_down().await;
            if let Err(error) = &down {
                tracing::warn!(id = self.sandbox.id, %error, "stop sandbox");
                answer(&mut self.stoppers, &down);
                answer(&mut self.removers, &down);
                self.retry_at = Some(Instant::now() + RETRY);
                return false;
            }
            self.torn_down = true;
        }
        answer(&mut self.stoppers, &Ok(()));
        if self.sandbox.phase != SandboxPhase::Removing {
            return false;
        }
        self.remove_ended(true).await;
        let left = !self.containers.is_empty();
        let removed = match self.records.remove() {
            _ if left => Err(CallError::Failed("a container of it cannot be removed".to_owned())),
            removed => removed.map_err(|e| CallError::failed("remove the record", &e)),
        };
        if removed.is_err() {
            answer(&mut self.removers, &removed);
            self.retry_at = Some(Instant::now() + RETRY);
            return false;
        }
        let view = self.publish_gone();
        self.shared.tell(&self.sandbox.id, Lifecycle::Deleted, view);
        answer(&mut self.removers, &Ok(()));
        true
    }

    fn publish_gone(&self) -> std::sync::Arc<crate::sandboxes::Sandbox> {
        self.shared.forget(&self.sandbox);
        std::sync::Arc::new(self.sandbox.clone())
    }

    /// Removes containers that have ended and shall go: those that somebody wants removed, or all.
    async fn remove_ended(&mut self, all: bool) {
        let gone = |live: &&super::Live| {
            live.container.process().is_none() && (all || live.container.removing)
        };
        let ids: Vec<String> =
            self.containers.iter().filter(gone).map(|live| live.container.id.clone()).collect();
        for id in ids {
            let removed = self.remove_one(&id).await;
            let Some(at) = self.containers.iter().position(|live| live.container.id == id) else {
                continue;
            };
            match &removed {
                Ok(()) => {
                    let mut live = self.containers.remove(at);
                    let view = self.publish();
                    self.shared.tell(&id, Lifecycle::Deleted, view);
                    answer(&mut live.stoppers, &removed);
                    answer(&mut live.removers, &removed);
                }
                Err(error) => {
                    tracing::warn!(id, %error, "remove container");
                    if let Some(live) = self.containers.get_mut(at) {
                        answer(&mut live.removers, &removed);
                    }
                    self.retry_at = Some(Instant::now() + RETRY);
                }
            }
        }
    }

    /// First the record: what no record names is swept by the next agent, should this one be killed in between.
    async fn remove_one(&self, id: &str) -> Result<(), CallError> {
        let removed = self.records.remove_container(id);
        removed.map_err(|e| CallError::failed("remove the record of the container", &e))?;
        let released = self.containers.iter().any(|l| l.container.id == id && l.released);
        let removed = if released {
            container::remove_folders(&self.context, id).await
        } else {
            container::remove(&self.context, id).await
        };
        removed.map_err(|e| CallError::failed("remove the container", &e))?;
        self.shared.samples.forget(id);
        Ok(())
    }

    /// SIGKILL to everything in a container.
    pub(super) fn kill(&mut self, id: &str) {
        let killed = self.cgroup(id).and_then(|cgroup| cgroup.kill());
        if let Err(error) = killed {
            tracing::error!(id, error = chain(&error), "kill container");
        }
        // Should its cgroup be gone or elsewhere, its first process at least.
        let process = self.find(id).and_then(|live| live.container.process());
        if let Some(Process { pid, start_time }) = process
            && let Ok(process) = Pidfd::open_exact(pid, start_time)
        {
            // It may have ended just now.
            let _ = process.signal(rustix::process::Signal::KILL);
        }
    }

    fn report_unkillable(&mut self, id: &str) {
        let message = format!("processes of container {id} do not die; the kernel holds them");
        let result = Err(CallError::TooLong(message));
        if let Some(live) = self.find(id) {
            answer(&mut live.stoppers, &result);
            answer(&mut live.removers, &result);
        }
        answer(&mut self.stoppers, &result);
        answer(&mut self.removers, &result);
    }

    fn cgroup(&self, id: &str) -> Result<Cgroup, crate::cgroup::CgroupError> {
        container::cgroup(&self.context, &self.sandbox.id, &self.sandbox.config, id)
    }

    /// A first process has ended.
    pub(super) async fn take_end(&mut self, ended: Ended) {
        let Ended { id, exit } = ended;
        if id == self.sandbox.id {
            if self.sandbox.is_ready() {
                // The kernel has killed all others with it, and lets none be made.
                tracing::warn!(id, "the first process of a pod was ended; the pod is over");
                self.want(SandboxPhase::NotReady);
            }
            return;
        }
        // Told twice, as PID 1 repeats itself to be safe.
        let Some(process) = self.find(&id).and_then(|live| live.container.process()) else {
            return;
        };
        let memory = match self.cgroup(&id) {
            Ok(cgroup) => {
                let memory = run::killed_for_memory(&cgroup);
                self.end_rest(&cgroup).await;
                memory
            }
            Err(_) => false,
        };
        if let Some(io) = self.shared.set_io(&id, None) {
            let dropped = io.finish().await;
            if dropped > 0 {
                tracing::warn!(id, dropped, "bytes of its output could not be written");
            }
        }
        let start_error = self.find(&id).and_then(|live| live.start_error.take());
        let (ending, message) = match (start_error, exit) {
            (Some(message), _) => (Ending::not_started(), message),
            (None, Some(_)) => (Ending::new(exit, memory), String::new()),
            (None, None) => (Ending::new(exit, memory), "nobody saw how it ended".to_owned()),
        };
        self.record_end(&id, &ending, &message);
        self.acknowledge_when_on_disk(&id, process);
        let config = self.find(&id).map(|live| live.container.config.clone());
        let released = container::release(&self.context, &id, config.as_deref()).await;
        if let Err(error) = &released {
            // Its removal tries again.
            tracing::warn!(id, error = chain(error), "release ended container");
        }
        if let Some(live) = self.find(&id) {
            live.released = released.is_ok();
        }
    }

    /// Kills what a container's first process has left behind. With a process namespace of its own there is nothing.
    async fn end_rest(&self, cgroup: &Cgroup) {
        if !cgroup.is_populated() {
            return;
        }
        if let Err(error) = cgroup.kill() {
            tracing::error!(error = chain(&error), "kill the rest of a container");
        }
        if let Err(error) = sandbox::wait_until_empty(cgroup).await {
            tracing::error!(error = chain(&error), "wait for the rest of a container");
        }
    }

    /// Writes an end down and tells everybody.
    pub(super) fn record_end(&mut self, id: &str, ending: &Ending, message: &str) {
        let Some(live) = self.find(id) else { return };
        live.stop = None;
        live.change(|c| {
            c.phase = ContainerPhase::Exited;
            c.exit = Some(ContainerExit {
                code: ending.code,
                reason: ending.reason.to_owned(),
                message: message.to_owned(),
                finished_at: ending.finished_at,
            });
        });
        let container = live.container.clone();
        if let Err(error) = self.records.save_container(&container) {
            // PID 1 keeps the exit until a record is on the disk, so the next agent is told again.
            tracing::error!(id, error = chain(&error), "save exit");
        }
        let view = self.publish();
        self.shared.tell(id, Lifecycle::Stopped, view);
        if let Some(live) = self.find(id) {
            answer(&mut live.stoppers, &Ok(()));
        }
    }

    /// PID 1 may forget an exit that a loss of power cannot take back. Nobody waits for the disk.
    fn acknowledge_when_on_disk(&self, id: &str, process: Process) {
        let path = self.records.container_path(id);
        let pid1 = self.context.pid1.clone();
        let wanted = self.containers.iter().find(|live| live.container.id == id);
        let Some(container) = wanted.map(|live| live.container.clone()) else { return };
        tokio::spawn(async move {
            tokio::time::sleep(SYNC_AFTER).await;
            let synced = tokio::task::spawn_blocking(move || {
                durable::sync_if(&path, |bytes| record::says_phase(bytes, container.phase))
            });
            match synced.await {
                Ok(Ok(true)) => {
                    if let Err(error) = pid1.acknowledge_exit(process.into()).await {
                        // PID 1 tells the next agent again, which finds the exit recorded.
                        tracing::warn!(error = chain(&error), "acknowledge exit");
                    }
                }
                Ok(Ok(false)) => tracing::warn!("an exit is not on disk; PID 1 keeps it"),
                Ok(Err(error)) => tracing::error!(error = chain(&error), "sync exit"),
                Err(_) => {}
            }
        });
    }
}
