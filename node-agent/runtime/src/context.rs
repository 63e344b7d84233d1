//! What all pod tasks share: where things are, who to ask, whom to tell.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ingot_images::ImageStore;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::container::EmptyNamespace;
use crate::device::KnownRules;
use crate::engine::reach::Reach;
use crate::engine::{EngineConfig, Paths};
use crate::event::{Event, Reason, Severity};
use crate::network::Network;
use crate::pid1::Pid1;
use crate::pod::Pod;
use crate::status::PodStatus;
use crate::surroundings::Surroundings;
use crate::user_ids::UserIds;

/// Containers built at the same time at most: more only fight for the CPUs.
const BUILDS_MAX: usize = 2;

/// Key of a container's log: pod uid and container name.
type LogKey = (String, String);

/// Shared by the engine and all pod tasks.
pub(crate) struct Context {
    pub(crate) config: EngineConfig,
    pub(crate) pid1: Pid1,
    pub(crate) boot_id: String,
    pub(crate) network: Network,
    pub(crate) user_ids: UserIds,
    pub(crate) builds: Semaphore,
    /// What the config gives to pods; `None` before the engine was told.
    pub(crate) surroundings: watch::Sender<Option<Arc<Surroundings>>>,
    pub(crate) snapshot: watch::Sender<Arc<Vec<Arc<PodStatus>>>>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) reach: Reach,
    pub(crate) device_rules: KnownRules,
    pub(crate) empty: EmptyNamespace,
    /// By uid. A change of one pod copies none of the others.
    statuses: Mutex<BTreeMap<String, Arc<PodStatus>>>,
    logs: Mutex<HashMap<LogKey, Arc<watch::Sender<u64>>>>,
}

impl Context {
    pub(crate) fn new(
        config: EngineConfig,
        pid1: Pid1,
        boot_id: String,
        events: broadcast::Sender<Event>,
    ) -> Self {
        let network = Network::new(&config);
        Self {
            config,
            pid1,
            boot_id,
            network,
            user_ids: UserIds::default(),
            builds: Semaphore::new(BUILDS_MAX),
            surroundings: watch::Sender::new(None),
            snapshot: watch::Sender::new(Arc::default()),
            events,
            reach: Reach::default(),
            device_rules: KnownRules::default(),
            empty: EmptyNamespace::default(),
            statuses: Mutex::default(),
            logs: Mutex::default(),
        }
    }

    pub(crate) fn paths(&self) -> &Paths {
        &self.config.paths
    }

    /// Images of the node.
    pub(crate) fn images(&self) -> &ImageStore {
        &self.config.images
    }

    /// Folder of what a pod has for this boot.
    pub(crate) fn pod_run(&self, uid: &str) -> PathBuf {
        self.paths().run.join("pods").join(uid)
    }

    /// Loads a kernel module that is not there. Blocks. One that cannot be loaded shows in what needs it, with a better message.
    pub(crate) fn load_module(&self, name: &str) {
        (self.config.load_module)(name);
    }

    /// Tells the world about a pod; `None` when it is gone.
    pub(crate) fn publish(&self, uid: &str, status: Option<PodStatus>) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match status {
            Some(status) if statuses.get(uid).is_some_and(|known| **known == status) => false,
            Some(status) => {
                statuses.insert(uid.to_owned(), Arc::new(status));
                true
            }
            None => {
                let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
                logs.retain(|(of, _), _| of != uid);
                statuses.remove(uid).is_some()
            }
        };
        if changed {
            let mut all: Vec<Arc<PodStatus>> = statuses.values().cloned().collect();
            all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            self.snapshot.send_replace(Arc::new(all));
        }
    }

    /// What is touched whenever a container's log grows.
    pub(crate) fn log_signal(&self, uid: &str, container: &str) -> Arc<watch::Sender<u64>> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (uid.to_owned(), container.to_owned());
        logs.entry(key).or_insert_with(|| Arc::new(watch::Sender::new(0))).clone()
    }

    /// Something happened to a pod, or to a container of it.
    pub(crate) fn event(
        &self,
        reason: Reason,
        severity: Severity,
        pod: &Pod,
        container: Option<&str>,
        message: String,
    ) {
        let Pod { namespace, name, .. } = pod;
        let object = match container {
            Some(container) => format!("container/{namespace}/{name}/{container}"),
            None => format!("pod/{namespace}/{name}"),
        };
        // Nobody listening is fine: the event is also in the log.
        tracing::info!(reason = reason.as_str(), object, message);
        let _ = self.events.send(Event { reason, severity, object, message });
    }
}
