//! The engine: who owns the pod tasks and what the rest of the agent may ask.

pub mod reach;
mod recover;
mod watch_quotas;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use ingot_images::ImageStore;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::Pid1;
use crate::context::Context;
use crate::event::Event;
use crate::logs::{LogError, LogLimits, LogLine, LogRequest};
use crate::pod::{Pod, SYSTEM_PRIORITY_MIN};
use crate::pod_task::{Command, PodTask, memory_request_bytes};
use crate::record::PodRecord;
use crate::sandboxes::Sandboxes;
use crate::stats::{ContainerStats, StatsFilter};
use crate::status::PodStatus;
use crate::surroundings::Surroundings;

/// Wishes a pod task may be behind.
const COMMANDS_MAX: usize = 16;

/// Events a slow subscriber may be behind before it loses the oldest.
const EVENTS_MAX: usize = 1024;

/// Where things are. The default is the layout of `docs/architecture.md`; tests use folders of their own.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Images bundled in the root: `<repository>/<tag>/{config.json,rootfs/}`.
    pub images: PathBuf,
    /// Records, writable layers, emptyDir volumes; survives a reboot.
    pub var: PathBuf,
    /// Log files.
    pub logs: PathBuf,
    /// Bundles, namespaces and spools; gone with the boot, as the processes are.
    pub run: PathBuf,
    /// Root of the cgroup2 mount.
    pub cgroup: PathBuf,
    /// The one-shot container builder.
    pub runc: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            images: "/usr/share/ingot/images".into(),
            var: "/var/lib/ingot".into(),
            logs: "/var/log/ingot/pods".into(),
            run: "/run/ingot".into(),
            cgroup: "/sys/fs/cgroup".into(),
            runc: "/usr/bin/ingot-runc".into(),
        }
    }
}

/// An address range of the pod bridge; the first address is the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Network address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

/// What the engine needs to know.
#[derive(Clone)]
pub struct EngineConfig {
    /// Where things are.
    pub paths: Paths,
    /// At most one IPv4 and one IPv6 range for pods that do not share the node's network.
    pub pod_subnets: Vec<Subnet>,
    /// Bounds of log files.
    pub log_limits: LogLimits,
    /// What all log files together may take; a share of their file system when not given.
    pub log_budget_bytes: Option<u64>,
    /// Images of the node. Whoever opened it lets go of what nobody uses after the engine has started.
    pub images: ImageStore,
    /// Loads a kernel module with what it needs; returns when it is there or cannot be. Called before the first use of
    /// "overlay", "bridge" and "veth", possibly more than once, on a thread that may block.
    pub load_module: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The boot id could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder of the engine could not be made.
    #[error("create folder {path}")]
    CreateFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// PID 1 did not answer.
    #[error("ask PID 1")]
    Pid1(#[from] crate::pid1::Pid1Error),
}

/// The pod engine. Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    context: Arc<Context>,
    sandboxes: Sandboxes,
    pods: Arc<Mutex<HashMap<String, mpsc::Sender<Command>>>>,
}

impl Engine {
    /// Takes over what runs from before (same boot), cleans up what does not, and starts. No pod is started, stopped or
    /// judged by the old wish before the first [`Engine::set_pods`], except that ended containers of pods that run in this
    /// boot restart as their records say.
    ///
    /// # Errors
    /// When a folder cannot be made or PID 1 does not answer; a broken record of one pod is logged and only costs that
    /// pod.
    pub async fn start(config: EngineConfig, pid1: Pid1) -> Result<Self, EngineError> {
        let boot_id_path = PathBuf::from("/proc/sys/kernel/random/boot_id");
        let boot_id = std::fs::read_to_string(&boot_id_path)
            .map_err(|source| EngineError::Read { path: boot_id_path, source })?;
        let boot_id = boot_id.trim().to_owned();
        let events = broadcast::Sender::new(EVENTS_MAX);
        let context = Arc::new(Context::new(config, pid1, boot_id, events));
        let sandboxes = Sandboxes::new(context.clone());
        let engine = Self { context, sandboxes, pods: Arc::default() };
        recover::recover(&engine).await?;
        tokio::spawn(watch_quotas::run(engine.context.clone()));
        tokio::spawn(crate::logs::budget::run(engine.context.clone()));
        Ok(engine)
    }

    /// Sets the whole list of pods that should run. Pods not in it are stopped and removed; a pod whose spec changed is
    /// stopped and made anew; the others are left alone. Returns at once; see the snapshot for progress.
    ///
    /// `surroundings` is what the pods may ask for besides themselves.
    pub fn set_pods(&self, generation: u64, mut pods: Vec<Pod>, surroundings: Surroundings) {
        // Whoever asks first is built first.
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.priority()));
        let mut tasks = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|_, commands| !commands.is_closed());
        let unwanted: Vec<String> =
            tasks.keys().filter(|uid| !pods.iter().any(|pod| pod.uid == **uid)).cloned().collect();
        for uid in unwanted {
            if let Some(commands) = tasks.get(&uid) {
                tell(commands, Command::Want { pod: None, generation });
            }
        }
        self.protect_memory(&pods);
        for pod in pods {
            if !pod.has_safe_names() {
                tracing::error!(name = pod.name, "pod has a name that cannot be a file name");
                continue;
            }
            let told = tasks.get(&pod.uid).is_some_and(|commands| {
                tell(commands, Command::Want { pod: Some(Box::new(pod.clone())), generation })
            });
            if !told {
                let uid = pod.uid.clone();
                match self.new_pod(pod, generation) {
                    Ok(commands) => drop(tasks.insert(uid, commands)),
                    Err(error) => {
                        tracing::error!(error = crate::report::chain(&error), "begin pod");
                    }
                }
            }
        }
        // Last: a pod that waits for this knows by then whether it is still wanted.
        self.context.surroundings.send_if_modified(|present| {
            let changed = present.as_deref() != Some(&surroundings);
            if changed {
                *present = Some(Arc::new(surroundings));
            }
            changed
        });
    }

    /// A pod's `memory.low` counts only up to what the group above has, so that one gets the sum.
    fn protect_memory(&self, pods: &[Pod]) {
        let sum: u64 = pods.iter().flat_map(Pod::all_containers).map(memory_request_bytes).sum();
        let path = self.context.paths().cgroup.join("pods/memory.low");
        if let Err(error) = std::fs::write(&path, sum.to_string()) {
            // Pods run without; only their share under memory pressure is not kept for them.
            tracing::warn!(%error, path = %path.display(), "protect the memory of pods");
        }
    }

    fn new_pod(&self, pod: Pod, generation: u64) -> Result<mpsc::Sender<Command>, EngineError> {
        let folder = PodRecord::folder(&self.context.paths().var, &pod.uid);
        std::fs::create_dir_all(&folder)
            .map_err(|source| EngineError::CreateFolder { path: folder.clone(), source })?;
        let record = PodRecord::new(pod);
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let task = PodTask::new(self.context.clone(), record, generation, receiver);
        tokio::spawn(task.run());
        Ok(commands)
    }

    /// Sandboxes that somebody else asks for, one by one. They are none of the pods of [`Engine::set_pods`].
    #[must_use]
    pub fn sandboxes(&self) -> &Sandboxes {
        &self.sandboxes
    }

    /// The pods as they are now, sorted by namespace and name.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Vec<Arc<PodStatus>>> {
        self.context.snapshot.borrow().clone()
    }

    /// Wakes its holder at each change of the snapshot.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Vec<Arc<PodStatus>>>> {
        self.context.snapshot.subscribe()
    }

    /// What happens from now on.
    #[must_use]
    pub fn subscribe_events(&self) -> broadcast::Receiver<Event> {
        self.context.events.subscribe()
    }

    /// Resource use of running containers.
    pub async fn stats(&self, filter: StatsFilter) -> Vec<ContainerStats> {
        crate::stats::read(&self.context, &self.snapshot(), &filter)
    }

    /// Log lines, oldest first; ends at the newest line, or never with `follow` while the pod exists.
    ///
    /// # Errors
    /// When the pod or container is not known.
    pub async fn logs(
        &self,
        request: LogRequest,
    ) -> Result<impl Stream<Item = Result<LogLine, LogError>> + Send + use<>, LogError> {
        crate::logs::read::open(&self.context, &self.snapshot(), &request)
    }

    /// Stops one pod as [`Engine::stop_all`] does: before the others, where it would only make work for them. One that is not there is
    /// stopped.
    pub async fn stop_one(&self, uid: &str, grace: Duration) {
        let task = {
            let tasks = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.get(uid).map(|commands| (true, commands.clone()))
        };
        halt(task.into_iter().collect(), grace).await;
    }

    /// Stops every pod: SIGTERM, at most `grace`, SIGKILL; those that the node cannot do without only when the others are
    /// gone. For the end of the machine: the wish is kept, so the pods run again after the next boot. Returns when none runs.
    pub async fn stop_all(&self, grace: Duration) {
        let last = grace / 4;
        let (critical, others): (Vec<_>, Vec<_>) = {
            let snapshot = self.snapshot();
            let tasks = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            let is_critical = |uid: &str| {
                let status = snapshot.iter().find(|status| status.uid == uid);
                status.is_some_and(|status| status.pod.priority() >= SYSTEM_PRIORITY_MIN)
            };
            let commands = tasks.iter().map(|(uid, commands)| (is_critical(uid), commands.clone()));
            let (critical, others): (Vec<_>, Vec<_>) =
                commands.partition(|(critical, _)| *critical);
            (critical, others)
        };
        let pods = async {
            if critical.is_empty() {
                return halt(others, grace).await;
            }
            halt(others, grace.saturating_sub(last)).await;
            halt(critical, last).await;
        };
        tokio::join!(pods, self.sandboxes.halt(grace));
    }
}

/// Stops pods and waits until nothing of them runs.
async fn halt(tasks: Vec<(bool, mpsc::Sender<Command>)>, grace: Duration) {
    let halt = |commands: &mpsc::Sender<Command>| {
        let (done, waiting) = oneshot::channel();
        tell(commands, Command::Halt { grace, done }).then_some(waiting)
    };
    let waiting: Vec<_> = tasks.iter().filter_map(|(_, commands)| halt(commands)).collect();
    for done in waiting {
        // An error means that the task is gone, and its pod with it.
        let _ = done.await;
    }
}

/// Tells a pod task something; false when it is gone. A task that is so far behind that its queue is full has every
/// later wish in it already, except for this one: then it is made to wait in a task of its own.
fn tell(commands: &mpsc::Sender<Command>, command: Command) -> bool {
    match commands.try_send(command) {
        Ok(()) => true,
        Err(mpsc::error::TrySendError::Closed(_)) => false,
        Err(mpsc::error::TrySendError::Full(command)) => {
            let commands = commands.clone();
            tokio::spawn(async move { commands.send(command).await });
            true
        }
    }
}
