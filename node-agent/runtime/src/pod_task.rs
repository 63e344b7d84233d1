//! The one task that does everything that is done to a pod. Its state is the pod's record; it looks at the record, does one
//! step, and looks again, so a former agent's record is taken up in the same way as its own.
//!
//! It must never hold something that only memory knows and that a restart would miss.

mod configs;
mod run;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingot_init_api::Exit;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::container;
use crate::context::Context;
use crate::durable::Survives;
use crate::event::{Reason, Severity};
use crate::lifecycle::{self, Step, Want};
use crate::logs::pump::Pump;
use crate::pod::Pod;
use crate::record::PodRecord;
use crate::report::chain;
use crate::sandbox;

/// Pause before something that failed for a reason outside the pod (disk, PID 1) is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Time for processes to go after SIGKILL, before it is sent again.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// What a pod task is told.
pub(crate) enum Command {
    /// This is what should run; `None`: the pod should not exist.
    Want { pod: Option<Box<Pod>>, generation: u64 },
    /// Stop for the end of the machine; answered when nothing runs.
    Halt { grace: Duration, done: oneshot::Sender<()> },
}

/// A run of a container ended; `None` when PID 1 has lost its exit.
pub(crate) struct Ended {
    container: usize,
    id: String,
    exit: Option<Exit>,
}

/// The task of one pod.
pub(crate) struct PodTask {
    context: Arc<Context>,
    folder: PathBuf,
    record: PodRecord,
    generation: u64,
    commands: mpsc::Receiver<Command>,
    ended_tx: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
    /// Pumps of running containers, by index.
    pumps: Vec<Option<Pump>>,
    /// What to run once the present pod is gone.
    next: Option<Pod>,
    /// Asked to stop for the end of the machine.
    halt: Option<(Duration, Vec<oneshot::Sender<()>>)>,
    /// SIGTERM was sent; SIGKILL is due then.
    kill_at: Option<Instant>,
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
        let containers = record.containers.len();
        let (ended_tx, ended) = mpsc::channel(containers.max(1) * 2);
        let pumps = std::iter::repeat_with(|| None).take(containers).collect();
        Self {
            context,
            folder,
            record,
            generation,
            commands,
            ended_tx,
            ended,
            pumps,
            next: None,
            halt: None,
            kill_at: None,
        }
    }

    /// Works until the pod is gone, or until the engine is.
    pub(crate) async fn run(mut self) {
        self.roll_back_unfinished().await;
        loop {
            self.publish();
            while let Ok(ended) = self.ended.try_recv() {
                self.take_end(ended).await;
            }
            while let Ok(command) = self.commands.try_recv() {
                self.take_command(command);
            }
            let wake_at = match lifecycle::plan(&self.record, self.want(), self.boot(), now_ms()) {
                Step::Start(index) => {
                    self.start(index).await;
                    continue;
                }
                Step::WaitUntil(due_ms) => {
                    Some(Instant::now() + Duration::from_millis(due_ms.saturating_sub(now_ms())))
                }
                Step::Wait => None,
                Step::Stop => Some(self.stop()),
                Step::Idle if self.record.removing => match self.remove().await {
                    Ok(true) => continue,
                    Ok(false) => return,
                    Err(message) => {
                        tracing::warn!(uid = self.record.pod.uid, message, "remove pod");
                        Some(Instant::now() + RETRY)
                    }
                },
                Step::Idle => {
                    self.kill_at = None;
                    for done in self.halt.iter_mut().flat_map(|(_, waiting)| waiting.drain(..)) {
                        // The asker may have stopped waiting.
                        let _ = done.send(());
                    }
                    None
                }
            };
            self.publish();
            let far = Instant::now() + Duration::from_secs(3600);
            // Cancel-safe: channels keep what was not taken.
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.take_command(command),
                    None => return,
                },
                Some(ended) = self.ended.recv() => self.take_end(ended).await,
                () = tokio::time::sleep_until(wake_at.unwrap_or(far)) => {}
            }
        }
    }

    fn boot(&self) -> &str {
        &self.context.boot_id
    }

    fn want(&self) -> Want {
        if self.halt.is_some() { Want::Stopped } else { Want::Run }
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Halt { grace, done } => {
                let (shortest, waiting) = self.halt.get_or_insert((grace, Vec::new()));
                *shortest = grace.min(*shortest);
                waiting.push(done);
                self.kill_at = None;
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
                        self.record.pod = *pod;
                        self.next = None;
                        self.save_or_log();
                    }
                    pod => {
                        self.next = pod.map(|pod| *pod);
                        if !self.record.removing {
                            self.record.removing = true;
                            self.save_or_log();
                            let message = match self.next {
                                Some(_) => "its config changed; it is stopped and made anew",
                                None => "it is no longer in the config",
                            };
                            self.event(Reason::Stopping, Severity::Info, None, message.to_owned());
                        }
                    }
                }
            }
        }
    }

    /// Sends SIGTERM once, and SIGKILL when the grace is over. Returns when to look again.
    fn stop(&mut self) -> Instant {
        let grace = match &self.halt {
            Some((grace, _)) => *grace,
            None => Duration::from_secs(self.record.pod.termination_grace_seconds.into()),
        };
        let now = Instant::now();
        match self.kill_at {
            Some(kill_at) if now < kill_at => kill_at,
            Some(_) => {
                self.kill_all();
                *self.kill_at.insert(now + KILL_AGAIN)
            }
            None => {
                self.terminate_all();
                *self.kill_at.insert(now + grace)
            }
        }
    }

    /// Removes the pod, of which nothing runs any more. True when another one takes its place.
    async fn remove(&mut self) -> Result<bool, String> {
        let uid = self.record.pod.uid.clone();
        sandbox::tear_down(&self.context, &uid).await.map_err(|e| chain(&e))?;
        self.context.network.release(&uid);
        self.kill_at = None;
        let logs = self.context.paths().logs.join(&uid);
        // The record goes last: until then a restart finds the pod and removes it again.
        let next = self.next.take();
        for folder in [self.folder.join("volumes"), logs] {
            if next.is_none() || folder.ends_with("volumes") {
                sandbox::remove_folder(&folder).map_err(|e| chain(&e))?;
            }
        }
        let Some(next) = next else {
            sandbox::remove_folder(&self.folder).map_err(|e| chain(&e))?;
            self.event(Reason::Removed, Severity::Info, None, "nothing of it is left".to_owned());
            self.context.publish(&uid, None);
            return Ok(false);
        };
        let old = std::mem::replace(&mut self.record, PodRecord::new(next));
        self.keep_attempts(&old);
        self.record.save(&self.folder, Survives::Kill).map_err(|e| chain(&e))?;
        let containers = self.record.containers.len();
        self.pumps = std::iter::repeat_with(|| None).take(containers).collect();
        (self.ended_tx, self.ended) = mpsc::channel(containers.max(1) * 2);
        Ok(true)
    }

    /// A container that keeps its name goes on counting its runs, so that no log file is written twice.
    fn keep_attempts(&mut self, old: &PodRecord) {
        let names = |record: &PodRecord| -> Vec<String> {
            record.pod.all_containers().map(|(c, _)| c.name.clone()).collect()
        };
        let old_names = names(old);
        for (name, container) in names(&self.record).iter().zip(&mut self.record.containers) {
            let before = old_names.iter().position(|old_name| old_name == name);
            if let Some(before) = before.and_then(|at| old.containers.get(at)) {
                container.attempts = before.attempts;
            }
        }
    }

    fn save_or_log(&self) {
        if let Err(error) = self.record.save(&self.folder, Survives::Kill) {
            tracing::error!(error = chain(&error), "save pod record");
        }
    }

    fn event(&self, reason: Reason, severity: Severity, container: Option<&str>, message: String) {
        self.context.event(reason, severity, &self.record.pod, container, message);
    }

    fn publish(&self) {
        let status = status::of(&self.record, self.generation, self.boot());
        self.context.publish(&self.record.pod.uid, Some(status));
    }

    /// Throws away what is left of a run that ended; a failure is repeated by the sweep at the next start of the agent.
    async fn clean_up(&self, id: &str) {
        if let Err(error) = container::remove(&self.context, id).await {
            tracing::warn!(id, error = chain(&error), "remove ended container");
        }
    }
}

/// Whether two pods differ only in what needs no restart.
fn same_processes(a: &Pod, b: &Pod) -> bool {
    let mut a = a.clone();
    a.labels.clone_from(&b.labels);
    a.termination_grace_seconds = b.termination_grace_seconds;
    a.restart_policy = b.restart_policy;
    a.source = b.source;
    a == *b
}

/// Milliseconds since boot.
fn now_ms() -> u64 {
    u64::try_from(ingot_linux::clock::since_boot().as_millis()).unwrap_or(u64::MAX)
}
