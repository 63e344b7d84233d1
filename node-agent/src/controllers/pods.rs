//! Hands the config's pods to the pod engine, which it starts once VAR is there and PID 1 answers, and turns what the
//! engine says into events. It knows nothing of how pods run.

mod registries;

use super::{Controller, Outcome, Want};
use crate::kubernetes::{Kubernetes, join};
use crate::pods::{ControlPlane, Pods};
use crate::state::{Events, Severity, State, VolumeState};
use anyhow::Context as _;
use ingot_images::{ImageStore, Notices, StoreConfig};
use ingot_machine_config::Quantity;
use ingot_runtime::event::{Event, Severity as EngineSeverity};
use ingot_runtime::logs::LogLimits;
use ingot_runtime::pod::{Pod, Source};
use ingot_runtime::status::{Phase, PodStatus};
use ingot_runtime::surroundings::{NodeFacts, Surroundings};
use ingot_runtime::{Engine, EngineConfig, Paths, Subnet};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// Said while the config asks for what a running engine cannot change.
const RESTART_NEEDED: &str = "the new pod network or log bounds take effect when the agent starts again; pods go on \
                              meanwhile: ingotctl service restart ingotd";

/// The pods controller.
pub(crate) struct PodsController {
    state: State,
    pods: Pods,
    kubernetes: Kubernetes,
    storage: watch::Receiver<crate::state::storage::Volumes>,
    pid1: watch::Receiver<Option<ingot_runtime::Pid1>>,
    observed: watch::Receiver<u64>,
    control_plane: watch::Receiver<ControlPlane>,
    engine: Option<Running>,
}

/// What the engine was told: the config by its generation, facts about the node, the pods of the control plane.
type Told = (u64, NodeFacts, Arc<Vec<Pod>>);

/// The engine, and what it was last told.
struct Running {
    engine: Engine,
    images: ImageStore,
    /// What it was started with; it takes no other while it runs.
    started_with: Settings,
    changes: watch::Receiver<Arc<Vec<Arc<PodStatus>>>>,
    told: Option<Told>,
}

/// Pod networks and log bounds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Settings {
    pod_subnets: Vec<Subnet>,
    log_limits: LogLimits,
    log_budget_bytes: Option<u64>,
}

/// What is there.
#[derive(Debug)]
pub(crate) struct Have {
    started: bool,
    can_start: Result<(), String>,
    told: Option<Told>,
    facts: NodeFacts,
    control_plane: ControlPlane,
    snapshot: Arc<Vec<Arc<PodStatus>>>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Start the engine.
    Start,
    /// Tell it which pods should run.
    Tell,
}

impl PodsController {
    /// Publishes the engine in `pods`.
    pub(crate) fn new(state: State, pods: Pods, kubernetes: Kubernetes) -> Self {
        let (storage, pid1) = (state.storage.subscribe(), pods.subscribe_pid1());
        let observed = state.observed.subscribe();
        let control_plane = pods.subscribe_control_plane();
        Self { state, pods, kubernetes, storage, pid1, observed, control_plane, engine: None }
    }

    fn can_start(&self) -> Result<(), String> {
        match self.state.storage.get().var {
            VolumeState::Mounted => {}
            VolumeState::Failed(reason) => return Err(format!("VAR is not mounted: {reason}")),
            _ => return Err("VAR to be mounted".into()),
        }
        self.pods.pid1().map(drop).map_err(|error| error.to_string())
    }

    async fn start(&mut self, want: &Want) -> anyhow::Result<()> {
        let pid1 = self.pods.pid1()?;
        let images = ImageStore::open(StoreConfig::default()).await.context("open the images")?;
        if let Some(notices) = images.notices() {
            tokio::spawn(forward_notices(notices, self.state.events.clone()));
        }
        if let Some(config) = &want.config {
            images.set_sources(registries::sources(&config.config.machine.registries));
        }
        // A record that cannot be read is told by who cannot do without it.
        let _damaged = self.kubernetes.load();
        let started_with = settings(want, &self.kubernetes);
        let config = engine_config(started_with.clone(), images.clone());
        let engine = Engine::start(config, pid1).await.context("start the pod engine")?;
        tokio::spawn(forward(engine.subscribe_events(), self.state.events.clone()));
        self.pods.set_engine(engine.clone());
        let cri = crate::cri::run(engine.sandboxes().clone(), images.clone(), self.state.clone());
        tokio::spawn(cri);
        let changes = engine.watch();
        self.engine = Some(Running { engine, images, started_with, changes, told: None });
        Ok(())
    }
}

impl Controller for PodsController {
    type Have = Have;
    type Step = Step;

    const NAME: &'static str = "pods";

    async fn observe(&mut self, _: &Want) -> anyhow::Result<Have> {
        Ok(Have {
            started: self.engine.is_some(),
            can_start: self.can_start(),
            told: self.engine.as_ref().and_then(|running| running.told.clone()),
            facts: node_facts(&self.state),
            control_plane: self.control_plane.borrow_and_update().clone(),
            snapshot: self.engine.as_ref().map(|r| r.engine.snapshot()).unwrap_or_default(),
        })
    }

    fn plan(&self, want: &Want, have: &Have) -> Vec<Step> {
        let mut steps = Vec::new();
        if !have.started {
            if have.can_start.is_err() {
                return steps;
            }
            steps.push(Step::Start);
        }
        // Before it is known which pods are the control plane's, none may be taken for unwanted.
        let Some(control_plane) = &have.control_plane else { return steps };
        let is_told = |(generation, facts, pods): &Told| {
            *generation == want.generation() && *facts == have.facts && pods == control_plane
        };
        if !have.told.as_ref().is_some_and(is_told) {
            steps.push(Step::Tell);
        }
        steps
    }

    async fn apply(&mut self, want: &Want, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Start => self.start(want).await,
            Step::Tell => {
                let config = want.config.as_ref().context("there is no config")?;
                let running = self.engine.as_mut().context("the engine has not started")?;
                let limit = config.config.machine.pods.pids_limit;
                let own = config.config.pods.iter().map(|pod| Pod::from_config(pod, limit));
                let control_plane =
                    self.pods.control_plane().context("the control plane is not known yet")?;
                let pods = control_plane.iter().cloned().chain(own).collect();
                let facts = node_facts(&self.state);
                let sources = registries::sources(&config.config.machine.registries);
                running.images.set_sources(sources);
                let surroundings = Surroundings::new(&config.config, facts.clone());
                running.engine.set_pods(config.generation, pods, surroundings);
                running.told = Some((config.generation, facts, control_plane));
                Ok(())
            }
        }
    }

    fn outcome(&self, want: &Want, have: &Have) -> Outcome {
        if let (false, Err(reason)) = (have.started, &have.can_start) {
            return Outcome::Waiting(reason.clone(), None);
        }
        let now = settings(want, &self.kubernetes);
        if self.engine.as_ref().is_some_and(|running| running.started_with != now) {
            return Outcome::Waiting(RESTART_NEEDED.into(), None);
        }
        outcome(want, &have.snapshot)
    }

    async fn woken(&mut self) {
        let told =
            self.engine.as_ref().and_then(|r| r.told.as_ref()).map(|(_, facts, _)| facts.clone());
        let engine = async {
            match &mut self.engine {
                // An error means that the engine is gone, which it never is while we hold it.
                Some(running) => drop(running.changes.changed().await),
                None => std::future::pending().await,
            }
        };
        // All arms are cancel safe: a change stays marked unseen.
        tokio::select! {
            _ = self.storage.changed() => {}
            _ = self.pid1.changed() => {}
            _ = self.control_plane.changed() => {}
            () = facts_changed(&mut self.observed, &self.state, told) => {}
            () = engine => {}
        }
    }
}

/// Waits until the facts about the node are others than the engine was told. What else is observed changes all the time.
async fn facts_changed(
    observed: &mut watch::Receiver<u64>,
    state: &State,
    told: Option<NodeFacts>,
) {
    let Some(told) = told else { return std::future::pending().await };
    while node_facts(state) == told {
        if observed.changed().await.is_err() {
            // An error means that the node ends.
            return std::future::pending().await;
        }
    }
}

/// What pods may ask about the node. Addresses of links that are no devices are those of pods.
pub(crate) fn node_facts(state: &State) -> NodeFacts {
    let observed = state.observed.snapshot();
    let is_useful = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    let links = observed.links.iter().filter(|link| link.physical && link.up);
    let mut addresses: Vec<IpAddr> =
        links.flat_map(|link| link.addresses.iter().map(|(address, _)| *address)).collect();
    addresses.retain(is_useful);
    addresses.sort_by_key(IpAddr::is_ipv6);
    NodeFacts { name: observed.hostname, addresses }
}

/// How the pods of the config are.
fn outcome(want: &Want, snapshot: &[Arc<PodStatus>]) -> Outcome {
    let wanted = want.config.as_ref().map_or(0, |config| config.config.pods.len());
    let is_up = |pod: &&Arc<PodStatus>| matches!(pod.phase, Phase::Running | Phase::Succeeded);
    let own = || snapshot.iter().filter(|pod| pod.source == Source::Config);
    let up = own().filter(is_up).count();
    let broken = own().find(|pod| pod.phase == Phase::Failed || !pod.reason.is_empty());
    match broken {
        Some(pod) => Outcome::Failed(format!(
            "{up} of {wanted} pods run; {}/{}: {}: {}",
            pod.namespace, pod.name, pod.reason, pod.message
        )),
        None if up < wanted => Outcome::Waiting(format!("{up} of {wanted} pods run"), None),
        None => Outcome::Ok(format!("{up} of {wanted} pods run")),
    }
}

/// What of the config the engine is started with.
fn settings(want: &Want, kubernetes: &Kubernetes) -> Settings {
    let mut settings = Settings::default();
    if let Some(config) = &want.config {
        let pods = &config.config.machine.pods;
        settings.log_limits =
            LogLimits { file_bytes: pods.log_max_size.units(), files: pods.log_max_files };
        settings.log_budget_bytes = pods.log_max_total.as_ref().map(Quantity::units);
        let network = &config.config.machine.network.pods;
        let section = config.config.machine.kubernetes.as_ref();
        let cluster = join::networks(kubernetes.record().as_deref(), section);
        let v4 = join::own_pods(network.ipv4_subnet, &cluster);
        let subnets = &mut settings.pod_subnets;
        subnets.push(Subnet { address: v4.network().into(), prefix: v4.prefix_len() });
        if let Some(v6) = network.ipv6_subnet {
            subnets.push(Subnet { address: v6.network().into(), prefix: v6.prefix_len() });
        }
    }
    settings
}

fn engine_config(settings: Settings, images: ImageStore) -> EngineConfig {
    let Settings { pod_subnets, log_limits, log_budget_bytes } = settings;
    EngineConfig {
        paths: Paths::default(),
        pod_subnets,
        log_limits,
        log_budget_bytes,
        images,
        load_module: Arc::new(super::modules::load_quietly),
    }
}

/// What the image store has to say becomes events. It has logged it.
async fn forward_notices(mut from: Notices, to: Events) {
    while let Some(notice) = from.recv().await {
        to.keep(Severity::Warning, notice.reason, notice.object, notice.message);
    }
}

/// The engine's events become the node's.
async fn forward(mut from: broadcast::Receiver<Event>, to: Events) {
    loop {
        match from.recv().await {
            Ok(event) => {
                let severity = match event.severity {
                    EngineSeverity::Info => Severity::Info,
                    EngineSeverity::Warning => Severity::Warning,
                    EngineSeverity::Error => Severity::Error,
                };
                to.keep(severity, event.reason.as_str(), event.object, event.message);
            }
            Err(broadcast::error::RecvError::Lagged(count)) => {
                let message = format!("{count} events of pods came faster than they could be kept");
                to.record(Severity::Warning, "EventsLost", "node", message);
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
