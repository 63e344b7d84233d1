//! The one task that does everything that is done to a sandbox and its containers. What it does next follows from their
//! records, so a former agent's are taken up in the same way as its own; what only this agent knows are those who wait.
//!
//! It must never make a caller's patience decide: work that was begun is finished, and the caller may be gone by then.

mod build;
mod ending;
mod start;
mod take_over;

use std::sync::Arc;
use std::time::Duration;

use ingot_images::Hold;
use ingot_init_api::Exit;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::config::{ContainerConfig, Resources, SandboxConfig};
use crate::context::Context;
use crate::report::chain;
use crate::sandboxes::record::Records;
use crate::sandboxes::{
    CallError, Container, ContainerPhase, Lifecycle, Sandbox, SandboxPhase, Shared,
};

/// Pause before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Time for processes to go after SIGKILL, before it is sent again.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// How often SIGKILL is sent before those who wait are told that it does not help.
const KILLS_MAX: u32 = 6;

/// Ends of containers that may wait to be looked at.
const ENDED_MAX: usize = 64;

/// Where an answer goes. Nobody may be there any more.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, CallError>>;

/// What a sandbox task is asked for.
pub(crate) enum Command {
    /// The id, once the sandbox is ready; an error when it is not, or is another than `config`.
    Ready { config: Arc<SandboxConfig>, reply: Reply<String> },
    /// Make a container.
    Create { config: Box<ContainerConfig>, reply: Reply<String> },
    /// Start a container.
    Start { id: String, reply: Reply<()> },
    /// End a container.
    StopContainer { id: String, grace: Duration, reply: Reply<()> },
    /// Remove a container.
    RemoveContainer { id: String, reply: Reply<()> },
    /// Change the limits of a container.
    UpdateContainer { id: String, resources: Box<Resources>, reply: Reply<()> },
    /// Change the limits of the pod.
    Update { resources: Box<Resources>, reply: Reply<()> },
    /// End everything.
    Stop { reply: Reply<()> },
    /// Remove everything.
    Remove { reply: Reply<()> },
}

/// How a task begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Make the sandbox.
    Build,
    /// It is there, or was when the former agent ended.
    TakenOver,
}

/// The first process of a container, or of the sandbox, ended; `None` when PID 1 has lost its exit.
pub(crate) struct Ended {
    /// Of the container, or of the sandbox.
    id: String,
    exit: Option<Exit>,
}

/// The task of one sandbox.
pub(crate) struct SandboxTask {
    context: Arc<Context>,
    shared: Arc<Shared>,
    records: Records,
    /// Without its containers.
    sandbox: Sandbox,
    containers: Vec<Live>,
    commands: mpsc::Receiver<Command>,
    ended_tx: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
    /// Somebody may still ask for something.
    listening: bool,
    /// Nothing of it is in the kernel any more.
    torn_down: bool,
    /// When to try again what failed.
    retry_at: Option<Instant>,
    stoppers: Vec<Reply<()>>,
    removers: Vec<Reply<()>>,
}

/// A container, and who waits for what.
struct Live {
    container: Arc<Container>,
    /// Keeps its images.
    _holds: Vec<Hold>,
    stop: Option<Stop>,
    /// Nothing of it is in the kernel any more.
    released: bool,
    /// Why its program could not be executed.
    start_error: Option<String>,
    stoppers: Vec<Reply<()>>,
    removers: Vec<Reply<()>>,
}

/// A container that is being ended.
#[derive(Clone, Copy)]
struct Stop {
    /// When SIGKILL is due.
    kill_at: Instant,
    /// How often it was sent.
    kills: u32,
}

impl SandboxTask {
    /// A task for a sandbox that is on disk, or is to be made.
    pub(crate) fn new(
        shared: Arc<Shared>,
        mut sandbox: Sandbox,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let context = shared.context.clone();
        let (ended_tx, ended) = mpsc::channel(ENDED_MAX);
        let containers = std::mem::take(&mut sandbox.containers);
        let containers = containers.into_iter().map(|c| Live::new(&context, c)).collect();
        Self {
            records: Records::new(&context.paths().var, &sandbox.id, &shared.soon),
            context,
            shared,
            sandbox,
            containers,
            commands,
            ended_tx,
            ended,
            listening: true,
            torn_down: false,
            retry_at: None,
            stoppers: Vec::new(),
            removers: Vec::new(),
        }
    }

    /// Works until nothing of the sandbox is left.
    pub(crate) async fn run(mut self, begin: Begin) {
        match begin {
            Begin::TakenOver => self.undo_unfinished().await,
            Begin::Build => {
                if let Err(error) = self.build().await {
                    self.give_up(&error);
                }
            }
        }
        loop {
            if self.progress().await {
                self.refuse_rest();
                return;
            }
            let far = Instant::now() + Duration::from_secs(3600);
            let wake_at = self.wake_at().unwrap_or(far);
            // Cancel-safe: channels keep what was not taken.
            tokio::select! {
                command = self.commands.recv(), if self.listening => match command {
                    Some(command) => self.take(command).await,
                    // Nobody can find it; what is left of it is taken away all the same.
                    None => self.listening = false,
                },
                Some(ended) = self.ended.recv() => self.take_end(ended).await,
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    async fn take(&mut self, command: Command) {
        // Whoever asked may be gone; then nobody is answered.
        match command {
            Command::Ready { config, reply } => {
                let _ = reply.send(self.ready(&config));
            }
            Command::Create { config, reply } => {
                let created = self.create(*config).await;
                let _ = reply.send(created);
            }
            Command::Start { id, reply } => {
                let started = self.start(&id).await;
                let _ = reply.send(started);
            }
            Command::StopContainer { id, grace, reply } => self.stop_container(&id, grace, reply),
            Command::RemoveContainer { id, reply } => self.remove_container(&id, reply),
            Command::UpdateContainer { id, resources, reply } => {
                let _ = reply.send(self.update_container(&id, &resources));
            }
            Command::Update { resources, reply } => {
                let _ = reply.send(self.update(&resources));
            }
            Command::Stop { reply } => {
                self.stoppers.push(reply);
                self.want(SandboxPhase::NotReady);
            }
            Command::Remove { reply } => {
                self.removers.push(reply);
                self.want(SandboxPhase::Removing);
            }
        }
    }

    /// Answers a repeated request for this sandbox.
    fn ready(&self, config: &SandboxConfig) -> Result<String, CallError> {
        let named = || {
            let SandboxConfig { namespace, name, uid, attempt, .. } = &*self.sandbox.config;
            format!("sandbox {namespace}/{name}, uid {uid}, attempt {attempt}")
        };
        if !self.sandbox.is_ready() {
            let message = format!("{} exists and is stopped; remove it first", named());
            return Err(CallError::Exists(message));
        }
        if *config != *self.sandbox.config {
            let message = format!("{} exists with another config; remove it first", named());
            return Err(CallError::Exists(message));
        }
        Ok(self.sandbox.id.clone())
    }

    /// Goes towards the end; never back.
    fn want(&mut self, phase: SandboxPhase) {
        let further = match phase {
            SandboxPhase::NotReady => self.sandbox.phase == SandboxPhase::Ready,
            SandboxPhase::Removing => self.sandbox.phase != SandboxPhase::Removing,
            SandboxPhase::Creating | SandboxPhase::Ready => false,
        };
        self.retry_at = None;
        if further {
            let was_ready = self.sandbox.is_ready();
            self.sandbox.phase = phase;
            if let Err(error) = self.records.save(&self.sandbox) {
                // It is done all the same; after a restart it is asked for again.
                tracing::error!(error = chain(&error), "save sandbox record");
            }
            let sandbox = self.publish();
            if was_ready {
                self.shared.tell(&self.sandbox.id, Lifecycle::Stopped, sandbox);
            }
        }
    }

    /// When something is due without anybody asking.
    fn wake_at(&self) -> Option<Instant> {
        let kills = self.containers.iter().filter_map(|live| live.stop).map(|stop| stop.kill_at);
        kills.chain(self.retry_at).min()
    }

    /// Shows what is true now.
    fn publish(&self) -> Arc<Sandbox> {
        let mut sandbox = self.sandbox.clone();
        let known = self.containers.iter().map(|live| live.container.clone());
        sandbox.containers = known.filter(|c| c.phase != ContainerPhase::Creating).collect();
        if sandbox.is_visible() {
            return self.shared.publish(sandbox);
        }
        Arc::new(sandbox)
    }

    fn find(&mut self, id: &str) -> Option<&mut Live> {
        // The beginning of an id was made sure to be unique by the door.
        self.containers.iter_mut().find(|live| live.container.id.starts_with(id))
    }

    fn found(&mut self, id: &str) -> Result<&mut Live, CallError> {
        self.find(id).ok_or_else(|| CallError::NoContainer { id: id.to_owned() })
    }

    /// The sandbox is gone: whoever still asks is told so by the closed channel, except those who wanted it to go.
    fn refuse_rest(&mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Stop { reply }
            | Command::Remove { reply }
            | Command::StopContainer { reply, .. }
            | Command::RemoveContainer { reply, .. } = command
            {
                let _ = reply.send(Ok(()));
            }
        }
    }
}

impl Live {
    fn new(context: &Context, container: Arc<Container>) -> Self {
        let images = [&container.image].into_iter().chain(container.mounted.values());
        let _holds = images.filter_map(|image| context.images().hold(&image.id)).collect();
        Self {
            container,
            _holds,
            stop: None,
            released: false,
            start_error: None,
            stoppers: Vec::new(),
            removers: Vec::new(),
        }
    }

    /// Changes the container; whoever has it already keeps what it was.
    fn change(&mut self, change: impl FnOnce(&mut Container)) {
        change(Arc::make_mut(&mut self.container));
    }
}

/// Answers everybody.
fn answer(waiting: &mut Vec<Reply<()>>, result: &Result<(), CallError>) {
    for reply in waiting.drain(..) {
        let _ = reply.send(result.clone());
    }
}
