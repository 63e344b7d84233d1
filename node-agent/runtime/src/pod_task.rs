//! The one task that does everything that is done to a pod. Its state is the pod's record; it looks at the record, does one
//! step, and looks again, so a former agent's record is taken up in the same way as its own.
//!
//! It must never hold something that only memory knows and that a restart would miss. What memory does hold (answers of
//! probes, hooks under way) is begun again by the next agent.

mod adopt;
mod configs;
mod credentials;
mod ending;
mod environment;
mod files;
mod hooks;
mod image;
mod live;
mod message;
mod probes;
mod sandbox;
mod start;
mod status;
mod stop;
mod usage;
mod volumes;

pub(crate) use configs::{USER_IDS, memory_request_bytes, ports as host_ports};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::live::{Happened, Live};
use crate::context::Context;
use crate::durable::Survives;
use crate::event::{Reason, Severity};
use crate::lifecycle::{self, Step, Want};
use crate::pod::{Pod, Role};
use crate::record::{ContainerRecord, PodRecord};
use crate::report::chain;
use crate::sandbox as lower_sandbox;
use crate::status::Condition;
use crate::surroundings::Surroundings;

/// Pause before something that failed for a reason outside the pod (disk, PID 1) is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Longest wait without a look at the record.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// What may have happened and is not looked at yet.
const HAPPENED_MAX: usize = 64;

/// What a pod task is told.
pub(crate) enum Command {
    /// This is what should run; `None`: the pod should not exist.
    Want { pod: Option<Box<Pod>>, generation: u64 },
    /// Stop for the end of the machine; answered when nothing runs.
    Halt { grace: Duration, done: oneshot::Sender<()> },
}

/// The task of one pod.
pub(crate) struct PodTask {
    context: Arc<Context>,
    folder: PathBuf,
    record: PodRecord,
    /// The pod of the record, for those who look at it.
    pod: Arc<Pod>,
    generation: u64,
    commands: mpsc::Receiver<Command>,
    happened_tx: mpsc::Sender<Happened>,
    happened: mpsc::Receiver<Happened>,
    surroundings: watch::Receiver<Option<Arc<Surroundings>>>,
    /// What memory knows of each container, by index.
    live: Vec<Live>,
    /// What to run once the present pod is gone.
    next: Option<Pod>,
    /// Asked to stop for the end of the machine.
    halt: Option<(Duration, Vec<oneshot::Sender<()>>)>,
    /// Everything is being stopped, and has until then.
    stop_until: Option<Instant>,
    /// When its disk usage is looked at, and whether that is under way.
    usage: usage::Watch,
    /// Conditions as they were shown last.
    conditions: Vec<Condition>,
}

impl PodTask {
    /// A task for a pod that is on disk or is to be started anew.
    pub(crate) fn new(
        context: Arc<Context>,
        record: PodRecord,
        generation: u64,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let folder = PodRecord::folder(&context.paths().var, &record.pod.uid);
        let (happened_tx, happened) = mpsc::channel(HAPPENED_MAX);
        let surroundings = context.surroundings.subscribe();
        let mut task = Self {
            context,
            folder,
            pod: Arc::new(record.pod.clone()),
            record,
            generation,
            commands,
            happened_tx,
            happened,
            surroundings,
            live: Vec::new(),
            next: None,
            halt: None,
            stop_until: None,
            usage: usage::Watch::default(),
            conditions: Vec::new(),
        };
        task.forget_live();
        task
    }

    /// Works until the pod is gone, or until the engine is.
    pub(crate) async fn run(mut self) {
        self.roll_back_unfinished().await;
        self.refresh_files().await;
        loop {
            self.publish();
            while let Ok(happened) = self.happened.try_recv() {
                self.take(happened).await;
            }
            while let Ok(command) = self.commands.try_recv() {
                self.take_command(command).await;
            }
            let Some(planned) = self.step().await else { return };
            let wake_at = match planned {
                Next::Again => continue,
                Next::Sleep(wake_at) => wake_at,
            };
            self.publish();
            // Cancel-safe: channels keep what was not taken.
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.take_command(command).await,
                    None => return,
                },
                Some(happened) = self.happened.recv() => self.take(happened).await,
                Ok(()) = self.surroundings.changed() => self.refresh_files().await,
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    /// Does the next thing. `None`: the pod is gone.
    async fn step(&mut self) -> Option<Next> {
        let mut wake_at = Instant::now() + LOOK_AGAIN;
        let mut sooner = |at: Option<Instant>| wake_at = at.map_or(wake_at, |at| at.min(wake_at));
        sooner(self.watch_deadline().await);
        sooner(self.watch_usage());
        let is_busy = |index: usize| {
            self.live.get(index).is_some_and(|live| live.fetching.is_some())
                || self.waits_to_be_told()
        };
        let planned =
            lifecycle::plan(&self.record, self.want(), &self.context.boot_id, now_ms(), &is_busy);
        match planned {
            Step::Start(index) => {
                self.start(index).await;
                return Some(Next::Again);
            }
            Step::WaitUntil(due_ms) => {
                sooner(Some(
                    Instant::now() + Duration::from_millis(due_ms.saturating_sub(now_ms())),
                ));
            }
            Step::Wait => {}
            Step::Stop => self.stop_next(),
            Step::Idle if self.record.removing => match self.remove().await {
                Ok(true) => return Some(Next::Again),
                Ok(false) => return None,
                Err(message) => {
                    tracing::warn!(uid = self.record.pod.uid, message, "remove pod");
                    sooner(Some(Instant::now() + RETRY));
                }
            },
            Step::Idle => {
                self.stop_until = None;
                for done in self.halt.iter_mut().flat_map(|(_, waiting)| waiting.drain(..)) {
                    // The asker may have stopped waiting.
                    let _ = done.send(());
                }
            }
        }
        sooner(self.press_stops());
        Some(Next::Sleep(wake_at))
    }

    fn want(&self) -> Want {
        if self.halt.is_some() { Want::Stopped } else { Want::Run }
    }

    async fn take(&mut self, happened: Happened) {
        match happened {
            Happened::Ended { index, id, exit } => self.take_end(index, &id, exit).await,
            Happened::Fetched { index, result } => self.take_images(index, result),
            Happened::PostStart { index, id, result } => {
                self.take_post_start(index, &id, result).await;
            }
            Happened::PreStop { index, id, result } => self.take_pre_stop(index, &id, result),
            Happened::Probed { index, id, kind, answer } => {
                self.take_answer(index, &id, kind, answer).await;
            }
            Happened::Measured(excess) => self.take_usage(excess).await,
        }
    }

    async fn take_command(&mut self, command: Command) {
        match command {
            Command::Halt { grace, done } => {
                let (shortest, waiting) = self.halt.get_or_insert((grace, Vec::new()));
                *shortest = grace.min(*shortest);
                waiting.push(done);
                self.hurry(grace);
            }
            Command::Want { pod, generation } => {
                self.generation = generation;
                match pod {
                    Some(pod) if *pod == self.record.pod && !self.record.removing => {
                        self.next = None;
                    }
                    Some(pod)
                        if same_processes(&pod, &self.record.pod) && !self.record.removing =>
                    {
                        // Only what can change while it runs.
                        self.pod = Arc::new((*pod).clone());
                        self.record.pod = *pod;
                        self.next = None;
                        self.save_or_log().await;
                        self.refresh_files().await;
                    }
                    pod => self.replace_by(pod.map(|pod| *pod)).await,
                }
            }
        }
    }

    async fn replace_by(&mut self, next: Option<Pod>) {
        self.next = next;
        if self.record.removing {
            return;
        }
        self.record.removing = true;
        self.save_or_log().await;
        let message = match self.next {
            Some(_) => "its config changed; it is stopped and made anew",
            None => "it is no longer in the config",
        };
        self.event(Reason::Stopping, Severity::Info, None, message.to_owned());
    }

    /// Removes the pod, of which nothing runs any more. True when another one takes its place.
    async fn remove(&mut self) -> Result<bool, String> {
        let uid = self.record.pod.uid.clone();
        lower_sandbox::tear_down(&self.context, &uid).await.map_err(|e| chain(&e))?;
        self.context.network.release(&uid);
        self.context.user_ids.release(&uid);
        self.stop_until = None;
        let next = self.next.take();
        // The record goes last: until then a restart finds the pod and removes it again.
        let mut folders = vec![self.folder.join("volumes"), self.folder.join("messages")];
        if next.is_none() {
            folders.push(self.context.paths().logs.join(&uid));
            folders.push(self.folder.clone());
        }
        let removed = tokio::task::spawn_blocking(move || {
            folders.iter().try_for_each(|folder| lower_sandbox::remove_folder(folder))
        });
        let removed = removed.await.map_err(|_| "the agent is ending".to_owned())?;
        if let Err(error) = removed {
            self.next = next;
            return Err(chain(&error));
        }
        let Some(next) = next else {
            self.event(Reason::Removed, Severity::Info, None, "nothing of it is left".to_owned());
            self.context.publish(&uid, None);
            return Ok(false);
        };
        let old = std::mem::replace(&mut self.record, PodRecord::new(next));
        self.pod = Arc::new(self.record.pod.clone());
        self.keep_attempts(&old);
        self.save(Survives::Kill).await.map_err(|e| chain(&e))?;
        self.forget_live();
        Ok(true)
    }

    /// A container that keeps its name goes on counting its runs, so that no log file is written twice.
    fn keep_attempts(&mut self, old: &PodRecord) {
        let names = |record: &PodRecord| -> Vec<String> {
            record.pod.all_containers().map(|c| c.name.clone()).collect()
        };
        let old_names = names(old);
        for (name, container) in names(&self.record).iter().zip(&mut self.record.containers) {
            let before = old_names.iter().position(|old_name| old_name == name);
            if let Some(before) = before.and_then(|at| old.containers.get(at)) {
                container.attempts = before.attempts;
            }
        }
    }

    /// Nothing of the containers is known to memory.
    fn forget_live(&mut self) {
        self.live =
            std::iter::repeat_with(Live::default).take(self.record.containers.len()).collect();
        (self.happened_tx, self.happened) = mpsc::channel(HAPPENED_MAX);
        self.conditions.clear();
    }

    /// Fails the pod when it has been active for too long; else returns when that will be.
    async fn watch_deadline(&mut self) -> Option<Instant> {
        if lifecycle::is_finished(&self.record) || self.record.removing {
            return None;
        }
        let left = lifecycle::time_left(&self.record, Timestamp::now())?;
        if left.is_positive() {
            return Some(Instant::now() + left.unsigned_abs());
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.condemn(Reason::DeadlineExceeded, message).await;
        None
    }

    /// The pod has failed as a whole: everything is stopped, nothing is started again.
    async fn condemn(&mut self, reason: Reason, message: String) {
        if lifecycle::condemn(&mut self.record, reason.as_str(), message.clone()) {
            self.event(reason, Severity::Error, None, message);
            self.save_or_log().await;
        }
    }

    /// Writes the record down, off the threads that must not block when it has to reach the disk.
    async fn save(&self, survives: Survives) -> Result<(), crate::record::RecordError> {
        match survives {
            // A small file in the page cache.
            Survives::Kill => self.record.save(&self.folder, survives),
            Survives::PowerLoss => {
                let (record, folder) = (self.record.clone(), self.folder.clone());
                let saved = tokio::task::spawn_blocking(move || record.save(&folder, survives));
                // The runtime is going away with the agent.
                saved.await.unwrap_or(Ok(()))
            }
        }
    }

    async fn save_or_log(&self) {
        if let Err(error) = self.save(Survives::Kill).await {
            tracing::error!(error = chain(&error), "save pod record");
        }
    }

    fn event(&self, reason: Reason, severity: Severity, container: Option<&str>, message: String) {
        self.context.event(reason, severity, &self.record.pod, container, message);
    }

    fn publish(&mut self) {
        let status = status::of(
            &self.record,
            &status::Seen {
                pod: &self.pod,
                generation: self.generation,
                boot_id: &self.context.boot_id,
                before: &self.conditions,
                now: Timestamp::now(),
            },
        );
        self.conditions.clone_from(&status.conditions);
        self.context.publish(&self.record.pod.uid, Some(status));
    }

    fn name(&self, index: usize) -> String {
        self.pod.container(index).map(|container| container.name.clone()).unwrap_or_default()
    }

    fn role(&self, index: usize) -> Role {
        self.record.pod.role(index)
    }

    fn container_mut(&mut self, index: usize) -> Option<&mut ContainerRecord> {
        self.record.containers.get_mut(index)
    }

    /// Whether that run is the present one of the container.
    fn is_current(&self, index: usize, id: &str) -> bool {
        let run = self.record.containers.get(index).and_then(|c| c.run.as_ref());
        run.is_some_and(|run| run.id == id)
    }
}

/// What a step leaves to do.
enum Next {
    /// Look again at once.
    Again,
    /// Nothing before this time, unless something happens.
    Sleep(Instant),
}

/// Whether two pods differ only in what needs no restart.
fn same_processes(a: &Pod, b: &Pod) -> bool {
    let mut a = a.clone();
    a.labels.clone_from(&b.labels);
    a.annotations.clone_from(&b.annotations);
    a.source = b.source;
    let (a_spec, b_spec) = (&mut a.spec, &b.spec);
    a_spec.termination_grace_period_seconds = b_spec.termination_grace_period_seconds;
    a_spec.restart_policy = b_spec.restart_policy;
    a_spec.active_deadline_seconds = b_spec.active_deadline_seconds;
    a_spec.image_pull_secrets.clone_from(&b_spec.image_pull_secrets);
    a == *b
}

/// Milliseconds since boot.
fn now_ms() -> u64 {
    u64::try_from(ingot_linux::clock::since_boot().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
