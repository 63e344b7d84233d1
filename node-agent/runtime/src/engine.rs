//! The engine: who owns the pod tasks and what the rest of the agent may ask.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::{broadcast, watch};

use crate::Pid1;
use crate::event::Event;
use crate::logs::{LogError, LogLine, LogRequest};
use crate::pod::Pod;
use crate::stats::{ContainerStats, StatsFilter};
use crate::status::PodStatus;

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
    shared: Arc<Shared>,
}

struct Shared {
    snapshot: watch::Sender<Arc<Vec<PodStatus>>>,
    events: broadcast::Sender<Event>,
}

impl Engine {
    /// Takes over what runs from before (same boot), cleans up what does not, and starts. No pod is started, stopped or
    /// judged by the old wish before the first [`Engine::set_pods`], except that ended containers of adopted pods
    /// restart as their records say.
    ///
    /// # Errors
    /// When a folder cannot be made or PID 1 does not answer; a broken record of one pod is logged and only costs that
    /// pod.
    pub async fn start(config: EngineConfig, pid1: Pid1) -> Result<Self, EngineError> {
        let _ = (config, pid1);
        let shared = Shared {
            snapshot: watch::Sender::new(Arc::default()),
            events: broadcast::Sender::new(EVENTS_MAX),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sets the whole list of pods that should run. Pods not in it are stopped and removed; a pod whose spec changed is
    /// stopped and made anew; the others are left alone. Returns at once; see the snapshot for progress.
    pub fn set_pods(&self, generation: u64, pods: Vec<Pod>) {
        let _ = (generation, pods);
    }

    /// The pods as they are now, sorted by namespace and name.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Vec<PodStatus>> {
        self.shared.snapshot.borrow().clone()
    }

    /// Wakes its holder at each change of the snapshot.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Vec<PodStatus>>> {
        self.shared.snapshot.subscribe()
    }

    /// What happens from now on.
    #[must_use]
    pub fn subscribe_events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Resource use of running containers.
    pub async fn stats(&self, filter: StatsFilter) -> Vec<ContainerStats> {
        let _ = filter;
        Vec::new()
    }

    /// Log lines, oldest first; ends at the newest line, or never with `follow` while the pod exists.
    ///
    /// # Errors
    /// When the pod or container is not known.
    pub async fn logs(
        &self,
        request: LogRequest,
    ) -> Result<impl Stream<Item = Result<LogLine, LogError>> + Send + use<>, LogError> {
        let LogRequest { namespace, pod, .. } = request;
        Err::<futures::stream::Empty<_>, _>(LogError::NoPod { namespace, pod })
    }

    /// Stops every pod: SIGTERM, at most `grace`, SIGKILL. For the end of the machine: the wish is kept, so the pods
    /// run again after the next boot. Returns when none runs.
    pub async fn stop_all(&self, grace: Duration) {
        let _ = grace;
    }
}
