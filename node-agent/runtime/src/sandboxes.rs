//! Sandboxes and containers as somebody outside asks for them one by one: the door to the [`SandboxTask`]s. One task per
//! sandbox does the work and owns its containers; readers get immutable values and never wait for a task.
//!
//! Who asks may go away at any moment: work that was begun is finished, and asking again for the same joins it.

mod error;
mod model;
mod reach;
pub(crate) mod record;
mod recover;
mod soon;
mod table;
pub mod usage;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use error::CallError;
pub use model::{
    Container, ContainerExit, ContainerPhase, ImageNames, Process, Sandbox, SandboxPhase, User,
};
pub(crate) use recover::recover;
pub(crate) use soon::AFTER as SYNC_AFTER;
pub(crate) use table::Shared;

use crate::config::{ContainerConfig, Resources, SandboxConfig};
use crate::context::Context;
use crate::run;
use crate::sandbox_task::{Begin, Command, Reply, SandboxTask};
use table::Key;

/// Calls that may wait for one sandbox; more wait at the door.
const COMMANDS_MAX: usize = 32;

/// Most sandboxes at a time. The kubelet's own default is 110 pods; PID 1's tables have room for this many.
const SANDBOXES_MAX: usize = 2048;

/// Something happened to a container or a sandbox.
#[derive(Clone, Debug)]
pub struct LifecycleEvent {
    /// Id of the container, or of the sandbox.
    pub id: String,
    /// What.
    pub what: Lifecycle,
    /// When.
    pub at: Timestamp,
    /// The sandbox as it was just after.
    pub sandbox: Arc<Sandbox>,
}

/// A step in the life of a container or a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It was made.
    Created,
    /// It was started.
    Started,
    /// It ended.
    Stopped,
    /// It is gone.
    Deleted,
}

/// The sandboxes of the node that somebody else asked for. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes {
    shared: Arc<Shared>,
}

impl Sandboxes {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { shared: Arc::new(Shared::new(context)) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Makes a sandbox, or joins whoever is making the same one. Returns its id.
    ///
    /// # Errors
    /// When it cannot be made, or when there is one with the same uid and attempt that is not ready or differs.
    pub async fn run(&self, config: SandboxConfig) -> Result<String, CallError> {
        let key = Key::of(&config);
        let config = Arc::new(config);
        let commands = match self.shared.find_key(&key) {
            Some(commands) => commands,
            None => self.begin(key, config.clone())?,
        };
        ask(&commands, |reply| Command::Ready { config, reply }).await?.ok_or(CallError::Ending)?
    }

    /// Starts the task of a new sandbox. Nothing is awaited here: from now on it is made, whoever waits.
    fn begin(
        &self,
        key: Key,
        config: Arc<SandboxConfig>,
    ) -> Result<mpsc::Sender<Command>, CallError> {
        if self.shared.count() >= SANDBOXES_MAX {
            let message = format!("the node has {SANDBOXES_MAX} sandboxes; remove some first");
            return Err(CallError::WrongState(message));
        }
        let id = run::new_id().map_err(|e| CallError::failed("draw an id", &e))?;
        let sandbox = Sandbox {
            id: id.clone(),
            resources: config.resources.clone(),
            config,
            boot_id: self.shared.context.boot_id.clone(),
            phase: SandboxPhase::Creating,
            created_at: Timestamp::now(),
            ips: Vec::new(),
            containers: Vec::new(),
        };
        Ok(self.spawn(key, sandbox, Begin::Build))
    }

    fn spawn(&self, key: Key, sandbox: Sandbox, begin: Begin) -> mpsc::Sender<Command> {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        self.shared.insert(key, &sandbox.id, commands.clone());
        let task = SandboxTask::new(self.shared.clone(), sandbox, receiver);
        tokio::spawn(task.run(begin));
        commands
    }

    /// Ends everything in a sandbox and gives its network back. One that is not there is stopped.
    ///
    /// # Errors
    /// When something of it does not go away.
    pub async fn stop(&self, id: &str) -> Result<(), CallError> {
        let Some(commands) = self.shared.task(id) else { return Ok(()) };
        ask(&commands, |reply| Command::Stop { reply }).await?.unwrap_or(Ok(()))
    }

    /// Stops and removes a sandbox with all its containers. One that is not there is removed.
    ///
    /// # Errors
    /// When something of it does not go away.
    pub async fn remove(&self, id: &str) -> Result<(), CallError> {
        let Some(commands) = self.shared.task(id) else { return Ok(()) };
        ask(&commands, |reply| Command::Remove { reply }).await?.unwrap_or(Ok(()))
    }

    /// Changes the limits of a whole pod.
    ///
    /// # Errors
    /// When there is no such sandbox or the kernel refuses; nothing is changed then.
    pub async fn update(&self, id: &str, resources: Resources) -> Result<(), CallError> {
        let gone = || CallError::NoSandbox { id: id.to_owned() };
        let commands = self.shared.task(id).ok_or_else(gone)?;
        let resources = Box::new(resources);
        ask(&commands, |reply| Command::Update { resources, reply }).await?.ok_or_else(gone)?
    }

    /// Makes a container, or joins whoever is making the same one. Returns its id.
    ///
    /// # Errors
    /// When the sandbox is not ready, the image is not there, the name is taken, or it cannot be built.
    pub async fn create(
        &self,
        sandbox_id: &str,
        config: ContainerConfig,
    ) -> Result<String, CallError> {
        let gone = || CallError::NoSandbox { id: sandbox_id.to_owned() };
        let commands = self.shared.task(sandbox_id).ok_or_else(gone)?;
        let config = Box::new(config);
        ask(&commands, |reply| Command::Create { config, reply }).await?.ok_or_else(gone)?
    }

    /// Starts a container that was made.
    ///
    /// # Errors
    /// When there is no such container, it was started before, or it cannot be started.
    pub async fn start(&self, id: &str) -> Result<(), CallError> {
        let gone = || CallError::NoContainer { id: id.to_owned() };
        let commands = self.shared.owner(id).ok_or_else(gone)?;
        let id = id.to_owned();
        ask(&commands, |reply| Command::Start { id, reply }).await?.ok_or_else(gone)?
    }

    /// Asks a container to end, and kills it after `grace`. A shorter grace overrules a longer one of an earlier call.
    /// Returns when it has ended; one that is not there has.
    ///
    /// # Errors
    /// When its processes do not die.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CallError> {
        let Some(commands) = self.shared.owner(id) else { return Ok(()) };
        let id = id.to_owned();
        let stopped = ask(&commands, |reply| Command::StopContainer { id, grace, reply });
        stopped.await?.unwrap_or(Ok(()))
    }

    /// Removes a container, killing it when it runs. One that is not there is removed.
    ///
    /// # Errors
    /// When something of it does not go away.
    pub async fn remove_container(&self, id: &str) -> Result<(), CallError> {
        let Some(commands) = self.shared.owner(id) else { return Ok(()) };
        let id = id.to_owned();
        let removed = ask(&commands, |reply| Command::RemoveContainer { id, reply });
        removed.await?.unwrap_or(Ok(()))
    }

    /// Changes the limits of a container: all of them, or none.
    ///
    /// # Errors
    /// When there is no such container, it has ended, or the kernel refuses.
    pub async fn update_container(&self, id: &str, resources: Resources) -> Result<(), CallError> {
        let gone = || CallError::NoContainer { id: id.to_owned() };
        let commands = self.shared.owner(id).ok_or_else(gone)?;
        let (id, resources) = (id.to_owned(), Box::new(resources));
        let updated = ask(&commands, |reply| Command::UpdateContainer { id, resources, reply });
        updated.await?.ok_or_else(gone)?
    }

    /// All sandboxes that are there, by id. Costs one pointer for each.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Sandbox>> {
        self.shared.list()
    }

    /// A sandbox by its id, or by the beginning of an id that only one has.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Sandbox>> {
        self.shared.find(id)
    }

    /// A container by its id, or by the beginning of an id that only one has, with its sandbox.
    #[must_use]
    pub fn find_container(&self, id: &str) -> Option<(Arc<Sandbox>, Arc<Container>)> {
        self.shared.find_container(id)
    }

    /// What happens from now on. A reader that falls too far behind is told so and has to list again.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<LifecycleEvent> {
        self.shared.events.subscribe()
    }

    /// Ends all containers for the end of the machine. Sandboxes stay as they are; after the boot they are not ready.
    pub async fn halt(&self, grace: Duration) {
        let running = self.list().into_iter().flat_map(|sandbox| sandbox.containers.clone());
        let stops = running.filter(|container| container.process().is_some()).map(|container| {
            let sandboxes = self.clone();
            async move {
                if let Err(error) = sandboxes.stop_container(&container.id, grace).await {
                    tracing::warn!(id = container.id, %error, "stop for the end of the machine");
                }
            }
        });
        futures::future::join_all(stops).await;
    }
}

/// Asks a task and waits. `None`: the task ended, and its sandbox with it.
async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<Option<Result<T, CallError>>, CallError> {
    let (reply, answer) = oneshot::channel();
    if commands.send(command(reply)).await.is_err() {
        return Ok(None);
    }
    Ok(answer.await.ok())
}
