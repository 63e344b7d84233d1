//! The end of a run: drain its output, write its exit down for good, have PID 1 forget it, remove what is left.

use ingot_init_api::Exit;
use ingot_machine_config::Quantity;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::live::Happened;
use super::message::{self, Words};
use super::{PodTask, now_ms};
use crate::cgroup::{Cgroup, number_after};
use crate::container;
use crate::durable::Survives;
use crate::event::{Reason, Severity};
use crate::lifecycle;
use crate::record::{Run, RunPhase};
use crate::report::chain;
use crate::run::{self, Ending};
use crate::status::ExitRecord;

/// Whose memory limit was reached.
enum Limit {
    /// The container's.
    Own,
    /// The pod's, of so many bytes.
    Pod(String),
    /// Nobody's: the node had no more.
    Node,
}

impl PodTask {
    /// Has the end of a run come in as a message. `None`: PID 1 does not know the process.
    pub(super) fn expect_end(
        &self,
        index: usize,
        id: String,
        exit: Option<oneshot::Receiver<Exit>>,
    ) {
        run::expect_end(exit, self.happened_tx.clone(), move |exit| Happened::Ended {
            index,
            id,
            exit,
        });
    }

    /// A run that was given up does not count, but PID 1 keeps its exit until somebody takes it.
    pub(super) fn give_up_exit(
        &self,
        id: &str,
        process: (i32, u64),
        exit: Option<oneshot::Receiver<Exit>>,
    ) {
        let (context, id) = (self.context.clone(), id.to_owned());
        let Some(exit) = exit else { return };
        tokio::spawn(async move {
            if exit.await.is_ok()
                && let Err(error) = context.pid1.acknowledge_exit(process).await
            {
                tracing::warn!(id, error = chain(&error), "acknowledge exit");
            }
        });
    }

    /// A run ended. Each step is repeated by the next agent if this one is killed before the last.
    pub(super) async fn take_end(&mut self, index: usize, id: &str, exit: Option<Exit>) {
        let run = self.record.containers.get(index).and_then(|c| c.run.clone());
        // Told twice, as PID 1 repeats itself to be safe.
        let Some(run) = run.filter(|run| run.id == id) else { return };
        self.drain(index, id).await;
        let (killed, whose_limit) = self.killed_for_memory(id);
        let start_error = self.live.get_mut(index).and_then(|live| live.start_error.take());
        let ending = match start_error {
            Some(_) => Ending::not_started(),
            None => Ending::new(exit, killed),
        };
        let mut record = exit_record(&run, &ending);
        record.message = match start_error {
            Some(message) => message,
            None => self.last_words(index, &run, ending.code != 0).await,
        };
        if exit.is_none() && record.message.is_empty() {
            record.message = "PID 1 does not know how it ended".to_owned();
        }
        self.announce_end(index, &record, killed.then_some(whose_limit));
        let saved = self.record_end(index, id, record).await;
        if let RunPhase::Started { pid, start_time } = run.phase
            && saved
            && let Err(error) = self.context.pid1.acknowledge_exit((pid, start_time)).await
        {
            // PID 1 tells the next agent again, which finds the exit recorded.
            tracing::warn!(error = chain(&error), "acknowledge exit");
        }
        self.clean_up(id).await;
    }

    /// Moves what its pipes still hold into the log, and forgets what memory knows of the run.
    async fn drain(&mut self, index: usize, id: &str) {
        let Some(live) = self.live.get_mut(index) else { return };
        let io = live.io.take();
        live.holds.clear();
        live.stop = None;
        live.post_start = None;
        live.probes.clear();
        self.context.reach.forget(id);
        let dropped = match io {
            Some(io) => io.finish().await,
            None => 0,
        };
        if dropped > 0 {
            let name = self.name(index);
            let message = format!("{dropped} bytes of its output could not be written to VAR");
            self.event(Reason::LogsDropped, Severity::Warning, Some(&name), message);
        }
    }

    fn killed_for_memory(&self, id: &str) -> (bool, Limit) {
        let pod_cgroup = Cgroup::of_pod(&self.context.paths().cgroup, &self.record.pod.uid);
        let events = pod_cgroup.of_container(id).text("memory.events");
        let count = |key| number_after(&events, key).unwrap_or(0);
        let whose_limit = if count("oom") > 0 {
            Limit::Own
        } else if number_after(&pod_cgroup.text("memory.events"), "oom").unwrap_or(0) > 0 {
            // The pod may hold no more than its containers together, and what it needs itself counts.
            Limit::Pod(pod_cgroup.text("memory.max").trim().to_owned())
        } else {
            Limit::Node
        };
        (count("oom_kill") > 0, whose_limit)
    }

    async fn last_words(&self, index: usize, run: &Run, failed: bool) -> String {
        let Some(container) = self.pod.container(index) else { return String::new() };
        let uid = &self.pod.uid;
        let paths = container::log_paths(&self.context, uid, &container.name, &run.id, run.attempt);
        let words = Words {
            file: message::file(&self.folder, &run.id),
            log: paths.current(),
            policy: container.termination_message_policy,
            failed,
        };
        // The runtime is going away with the agent.
        tokio::task::spawn_blocking(move || message::take(&words)).await.unwrap_or_default()
    }

    /// Writes an end down. False when the disk takes nothing, not even after the layer of the run, which may be what
    /// fills it, is gone: then PID 1 keeps the exit, and a next agent is told again. Waiting for the disk here would keep
    /// the pod from being removed, which is what an operator does about a full disk.
    pub(super) async fn record_end(&mut self, index: usize, id: &str, exit: ExitRecord) -> bool {
        let (boot_id, role) = (self.context.boot_id.clone(), self.role(index));
        if let Some(container) = self.container_mut(index) {
            lifecycle::ended(container, role, exit, &boot_id, now_ms());
        }
        for last in [false, true] {
            match self.save(Survives::PowerLoss).await {
                Ok(()) => return true,
                Err(error) => tracing::error!(error = chain(&error), "save exit"),
            }
            if !last {
                self.clean_up(id).await;
            }
        }
        false
    }

    /// `killed`: the kernel killed in it for memory, and at whose limit.
    fn announce_end(&self, index: usize, exit: &ExitRecord, killed: Option<Limit>) {
        let Some(container) = self.pod.container(index) else { return };
        let name = Some(container.name.as_str());
        if let Some(whose_limit) = killed {
            let own = container.resources.limits.memory.as_ref().map(Quantity::units);
            let limit = match (whose_limit, own) {
                (Limit::Own, Some(bytes)) => format!("at its memory limit of {bytes} bytes"),
                (Limit::Pod(bytes), _) => format!("at its pod's memory limit of {bytes} bytes"),
                _ => "because the node was out of memory".to_owned(),
            };
            let message = format!(
                "container {} was killed {limit}, attempt {}",
                container.name, exit.attempt
            );
            self.event(Reason::OomKilled, Severity::Warning, name, message);
        }
        let severity = if exit.exit_code == 0 { Severity::Info } else { Severity::Warning };
        let message = format!(
            "ended with exit code {}, {}, attempt {}",
            exit.exit_code, exit.reason, exit.attempt
        );
        self.event(Reason::Died, severity, name, message);
    }

    /// Throws away what is left of a run that ended; a failure is repeated by the sweep at the next start of the agent.
    pub(super) async fn clean_up(&self, id: &str) {
        if let Err(error) = container::remove(&self.context, id).await {
            tracing::warn!(id, error = chain(&error), "remove ended container");
        }
        let message = message::file(&self.folder, id);
        // Usually taken already.
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(message)).await;
    }
}

fn exit_record(run: &Run, ending: &Ending) -> ExitRecord {
    ExitRecord {
        id: run.id.clone(),
        attempt: run.attempt,
        exit_code: ending.code,
        signal: ending.signal,
        reason: ending.reason.to_owned(),
        message: String::new(),
        started_at: run.started_at,
        finished_at: ending.finished_at,
    }
}

/// The record of a run that the end of the boot cut off.
pub(super) fn cut_off(run: &Run) -> ExitRecord {
    let ending = Ending { finished_at: Timestamp::now(), ..Ending::unknown() };
    ExitRecord {
        reason: "NodeRebooted".to_owned(),
        message: "the node went down while it ran".to_owned(),
        ..exit_record(run, &ending)
    }
}
