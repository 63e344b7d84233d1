//! Keeps the cluster's own programs on this node: once a cluster is bootstrapped, sees to certificates and files, then hands the
//! programs as pods to the pod engine, each as soon as what it needs is ready. What pods do in the cluster is not its affair.

pub(crate) mod addons;
mod host;
pub(crate) mod nodes;

use super::{Controller, Outcome, Want};
use crate::kubernetes::authorities::Authorities;
use crate::kubernetes::components::{ETCD, Owner, needs, owners};
use crate::kubernetes::record::{Record, Refused, Situation, is_before};
use crate::kubernetes::{
    Cluster, Kubernetes, NAMESPACE, certificates, components, files, image, join, memory_bytes,
    restore,
};
use crate::pods::Pods;
use crate::state::{Severity, State, VolumeState};
use anyhow::Context as _;
use ingot_machine_config::join::JoinToken;
use ingot_machine_config::v1::kubernetes::{Kubernetes as Section, Role as NodeRole};
use ingot_runtime::Engine;
use ingot_runtime::pod::{Pod, Role};
use ingot_runtime::status::{ContainerState, PodStatus};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Between two looks at certificates and the clock.
const INTERVAL: Duration = Duration::from_secs(600);

/// The controller.
pub(crate) struct KubernetesController {
    state: State,
    pods: Pods,
    kubernetes: Kubernetes,
    storage: watch::Receiver<crate::state::storage::Volumes>,
    observed: watch::Receiver<u64>,
    record: watch::Receiver<Option<Arc<crate::kubernetes::record::Record>>>,
    engine: watch::Receiver<Option<Engine>>,
    changes: Option<watch::Receiver<Arc<Vec<Arc<PodStatus>>>>>,
    memory_bytes: u64,
    /// What the files on disk were made from, and when they were looked at.
    written: Option<(Cluster, SystemTime)>,
}

/// What is there.
#[derive(Debug)]
pub(crate) struct Have {
    /// What holds up.
    waits_for: Option<String>,
    /// Why this node cannot be a worker.
    refused: Option<Refused>,
    /// What a worker has to note of its cluster before anything else.
    joins: Option<Record>,
    cluster: Option<Cluster>,
    fresh: bool,
    /// Pods that should run now, by owner.
    due: Vec<Owner>,
    published: Option<Vec<String>>,
    pods: Vec<Arc<PodStatus>>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Note the cluster of a worker.
    Join,
    /// Certificates, files, kernel settings.
    Prepare,
    /// Say which pods should run.
    Publish,
    /// The restored database is served: forget what was before.
    EndRestore,
}

impl KubernetesController {
    /// Publishes pods in `pods`, and what was bootstrapped in `kubernetes`.
    pub(crate) fn new(state: State, pods: Pods, kubernetes: Kubernetes) -> Self {
        Self {
            storage: state.storage.subscribe(),
            observed: state.observed.subscribe(),
            record: kubernetes.subscribe(),
            engine: pods.subscribe_engine(),
            changes: None,
            memory_bytes: memory_bytes(),
            written: None,
            state,
            pods,
            kubernetes,
        }
    }

    /// Why there are no pods to run yet; `Ok(None)` when there are none at all.
    fn cluster(&self, section: &Section) -> anyhow::Result<Result<Option<Cluster>, String>> {
        match self.state.storage.get().var {
            VolumeState::Mounted => {}
            VolumeState::Failed(reason) => return Ok(Err(format!("VAR is not mounted: {reason}"))),
            _ => return Ok(Err("VAR to be mounted".to_owned())),
        }
        let Some(record) = self.kubernetes.load()? else { return Ok(Ok(None)) };
        // What runs goes on; with this clock nothing new is made.
        anyhow::ensure!(
            !is_before(&record, SystemTime::now()),
            "the clock of the node says a time before the cluster was made, so no certificate is good; set time.servers in the config, or the clock of the machine"
        );
        let image = image().context("the image of this node holds no Kubernetes")?;
        let mut addresses = addresses(&self.state);
        if addresses.is_empty() {
            // An agent that starts anew must not forget what runs while it asks for its address again.
            addresses.clone_from(&record.addresses);
        }
        if let Some(joined) = &record.joined {
            host::facing_first(&mut addresses, &joined.servers);
        }
        let token = section.join_token.as_ref().and_then(|text| JoinToken::parse(text).ok());
        Ok(Ok(Some(Cluster {
            record: (*record).clone(),
            section: section.clone(),
            addresses,
            image,
            memory_bytes: self.memory_bytes,
            folder: self.kubernetes.folder().to_owned(),
            token: token.map(|token| token.secret),
        })))
    }

    /// What a worker has to note, or why it cannot be one.
    fn joins(&self, section: &Section) -> Result<Option<Record>, Refused> {
        let record = self.kubernetes.record();
        if section.role != NodeRole::Worker {
            let joined = record.filter(|record| record.joined.is_some());
            let refused = joined.map(|record| Refused::Joined { name: record.name.clone() });
            return refused.map_or(Ok(None), Err);
        }
        // The config's checks have read it before.
        let token = section.join_token.as_ref().and_then(|text| JoinToken::parse(text).ok());
        let situation = Situation {
            configured: true,
            section: Some(section),
            record: record.as_deref(),
            has_image: image().is_some(),
            var: Ok(()),
            node: &self.state.observed.snapshot().hostname,
            addresses: &addresses(&self.state),
            now: SystemTime::now(),
            clock_lost: self.state.observed.snapshot().clock_lost,
        };
        join::decide(&situation, token.as_ref())
    }

    async fn prepare(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let now = SystemTime::now();
        // After a power cut in the middle of a restore; while an etcd runs, it is that one's.
        let begin_anew = cluster.record.restoring && self.written.is_none() && !self.runs(ETCD);
        let prepared = cluster.clone();
        // Keys are drawn, modules loaded, disks waited for.
        let task = tokio::task::spawn_blocking(move || prepare(&prepared, begin_anew, now));
        let made = task.await.context("the agent is ending")??;
        if !made.is_empty() {
            let message = made.join(", ");
            self.state.events.record(Severity::Info, "CertificateIssued", "kubernetes", message);
        }
        self.written = Some((cluster.clone(), now));
        Ok(())
    }

    async fn join(&self, record: Record) -> anyhow::Result<()> {
        let servers = record.joined.as_ref().map(|joined| joined.servers.join(", "));
        let message = format!("cluster \"{}\" at {}", record.name, servers.unwrap_or_default());
        let kubernetes = self.kubernetes.clone();
        // It waits for the disk.
        let stored = tokio::task::spawn_blocking(move || kubernetes.store(record)).await;
        stored.context("the agent is ending")??;
        self.state.events.record(Severity::Info, "Joining", "kubernetes", message);
        Ok(())
    }

    /// Whether a container of a program runs.
    fn runs(&self, owner: Owner) -> bool {
        let pods =
            self.changes.as_ref().map(|changes| changes.borrow().clone()).unwrap_or_default();
        pods.iter().filter(|pod| is_of(pod, owner)).any(|pod| {
            pod.containers.iter().any(|container| container.state == ContainerState::Running)
        })
    }

    fn is_fresh(&self, cluster: &Cluster) -> bool {
        self.written.as_ref().is_some_and(|(written, at)| {
            let age = SystemTime::now().duration_since(*at);
            // A clock that went back is a reason to look as well.
            written == cluster && age.is_ok_and(|age| age < INTERVAL)
        })
    }
}

impl Controller for KubernetesController {
    type Have = Have;
    type Step = Step;

    const NAME: &'static str = "kubernetes";

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Have> {
        self.observed.borrow_and_update();
        let engine = self.engine.borrow_and_update().clone();
        if let (Some(engine), None) = (&engine, &self.changes) {
            self.changes = Some(engine.watch());
        }
        let pods = engine.as_ref().map(|engine| engine.snapshot().to_vec()).unwrap_or_default();
        let section = want.config.as_ref().and_then(|c| c.config.machine.kubernetes.as_ref());
        let found =
            section.map_or(Ok(Ok(None)), |section| self.cluster(section)).inspect_err(|_| {
                // The node's other pods must not wait for a cluster that cannot be; of one that runs nothing is stopped.
                let runs = pods.iter().filter(|pod| pod.namespace == NAMESPACE).any(|pod| {
                    pod.containers.iter().any(|one| one.state == ContainerState::Running)
                });
                if engine.is_some() && !runs && self.pods.control_plane().is_none() {
                    self.pods.set_control_plane(Vec::new());
                }
            });
        let (waits_for, cluster) = match found? {
            Ok(cluster) => (None, cluster),
            Err(reason) => (Some(reason), None),
        };
        let waits_for = waits_for.or_else(|| {
            (cluster.is_some() && engine.is_none()).then(|| "the pod engine".to_owned())
        });
        let joins = section.filter(|_| waits_for.is_none()).map(|section| self.joins(section));
        let (joins, refused) = match joins.unwrap_or(Ok(None)) {
            Ok(joins) => (joins, None),
            Err(refused) => (None, Some(refused)),
        };
        let due = match &cluster {
            Some(cluster) => {
                due(owners(&cluster.record), |owner| is_ready(&pods, owner), has_processes)
            }
            None => Vec::new(),
        };
        let published = self
            .pods
            .control_plane()
            .map(|pods| pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>());
        let fresh = cluster.as_ref().is_none_or(|cluster| self.is_fresh(cluster));
        Ok(Have { waits_for, refused, joins, cluster, fresh, due, published, pods })
    }

    fn plan(&self, _: &Want, have: &Have) -> Vec<Step> {
        if have.waits_for.is_some() {
            return Vec::new();
        }
        if have.joins.is_some() {
            return vec![Step::Join];
        }
        let mut steps = Vec::new();
        if !have.fresh {
            steps.push(Step::Prepare);
        }
        let names: Vec<String> = have.due.iter().map(|owner| owner.name.to_owned()).collect();
        if !have.fresh || have.published.as_ref() != Some(&names) {
            steps.push(Step::Publish);
        }
        let restored = have
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.record.restoring && is_restored(&have.pods, cluster));
        if steps.is_empty() && restored {
            steps.push(Step::EndRestore);
        }
        steps
    }

    async fn apply(&mut self, want: &Want, step: Step) -> anyhow::Result<()> {
        let have = self.observe(want).await?;
        match (step, &have.cluster) {
            (Step::Join, _) => match have.joins {
                Some(record) => self.join(record).await,
                None => Ok(()),
            },
            (Step::Prepare, Some(cluster)) => self.prepare(cluster).await,
            (Step::EndRestore, Some(cluster)) => {
                let record = Record { restoring: false, ..cluster.record.clone() };
                restore::clean_up(&cluster.folder, &record);
                self.kubernetes.store(record)?;
                let message = "the restored database is served";
                self.state.events.record(Severity::Info, "EtcdRestored", "kubernetes", message);
                Ok(())
            }
            (Step::Prepare | Step::EndRestore, None) => Ok(()),
            (Step::Publish, cluster) => {
                let one = |owner: &Owner| match cluster {
                    Some(cluster) => components::pod(cluster, *owner).map(Some),
                    None => Ok(None),
                };
                let pods = have.due.iter().map(one).collect::<anyhow::Result<Vec<_>>>()?;
                self.pods.set_control_plane(pods.into_iter().flatten().collect::<Vec<Pod>>());
                Ok(())
            }
        }
    }

    fn outcome(&self, want: &Want, have: &Have) -> Outcome {
        let section = want.config.as_ref().and_then(|c| c.config.machine.kubernetes.as_ref());
        if section.is_none() {
            return Outcome::Ok("the config has no section \"kubernetes\"".into());
        }
        if let Some(reason) = &have.waits_for {
            return Outcome::Waiting(reason.clone(), None);
        }
        if let Some(refused) = &have.refused {
            return Outcome::Failed(format!("{refused}; {}", refused.hint()));
        }
        let Some(cluster) = &have.cluster else {
            return Outcome::Waiting("`ingotctl bootstrap`".into(), None);
        };
        let missing: Vec<&str> = owners(&cluster.record)
            .iter()
            .filter(|owner| !is_ready(&have.pods, **owner))
            .map(|owner| owner.name)
            .collect();
        if !missing.is_empty() {
            Outcome::Waiting(format!("{} to be ready", missing.join(", ")), None)
        } else if cluster.is_worker() {
            Outcome::Ok(format!("a worker of the cluster \"{}\"", cluster.record.name))
        } else {
            Outcome::Ok("all programs of the control plane are ready".into())
        }
    }

    async fn woken(&mut self) {
        let changes = async {
            match &mut self.changes {
                // An error means that the engine is gone, which it never is while the agent lives.
                Some(changes) => drop(changes.changed().await),
                None => std::future::pending().await,
            }
        };
        let own = self.written.as_ref().map(|(cluster, _)| cluster.addresses.clone());
        // All arms are cancel safe: a change stays marked unseen.
        tokio::select! {
            _ = self.storage.changed() => {}
            _ = self.record.changed() => {}
            _ = self.engine.changed() => {}
            () = addresses_changed(&mut self.observed, &self.state, own) => {}
            () = changes => {}
        }
    }

    fn resync(&self) -> Option<Duration> {
        Some(INTERVAL)
    }
}

/// Makes everything on the disk as the cluster needs it. Says which certificates were made.
fn prepare(cluster: &Cluster, begin_anew: bool, now: SystemTime) -> anyhow::Result<Vec<String>> {
    host::prepare();
    if begin_anew {
        restore::begin_anew(&cluster.folder, &cluster.record).context("begin the restore anew")?;
    }
    files::folders(cluster)?;
    if cluster.is_worker() {
        files::ensure(cluster, files::of_worker(cluster))?;
        return Ok(Vec::new());
    }
    let authorities = Authorities::ensure(&cluster.folder, now)?;
    let made = certificates::ensure(cluster, &authorities, now)?;
    files::ensure(cluster, files::all(cluster, &authorities)?)?;
    Ok(made)
}

/// Waits until the node has other addresses than these. What else is observed changes all the time.
async fn addresses_changed(
    observed: &mut watch::Receiver<u64>,
    state: &State,
    known: Option<Vec<std::net::IpAddr>>,
) {
    let Some(mut known) = known else { return std::future::pending().await };
    known.sort();
    loop {
        let mut now = addresses(state);
        now.sort();
        if !now.is_empty() && now != known {
            return;
        }
        if observed.changed().await.is_err() {
            // An error means that the node ends.
            return std::future::pending().await;
        }
    }
}

/// The node's addresses, IPv4 first.
pub(crate) fn addresses(state: &State) -> Vec<std::net::IpAddr> {
    super::pods::node_facts(state).addresses
}

/// The programs that should run now: those that run already, those that need nobody, and those whose need is met. One that ended, or
/// that a reboot ended, waits for its need again: it would only end again, with ever longer pauses. After a boot it is the kernel that
/// knows: what the pod engine has on the disk may say ready of what has not been started.
fn due(
    owners: &[Owner],
    ready: impl Fn(Owner) -> bool,
    runs: impl Fn(Owner) -> bool,
) -> Vec<Owner> {
    let met = |first: Owner| runs(first) && ready(first);
    let is_due = |owner: &Owner| runs(*owner) || needs(*owner).is_none_or(met);
    owners.iter().copied().filter(is_due).collect()
}

/// Whether a process of a program is there, as the kernel has it: an agent that starts anew must not take what runs for ended before
/// the pod engine has looked.
fn has_processes(owner: Owner) -> bool {
    let path = format!("/sys/fs/cgroup/pods/{}/cgroup.events", components::uid(owner));
    let events = std::fs::read_to_string(path).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

fn is_of(pod: &PodStatus, owner: Owner) -> bool {
    pod.namespace == NAMESPACE && pod.name == owner.name
}

/// Whether the etcd that is ready is the one with the restored database.
fn is_restored(pods: &[Arc<PodStatus>], cluster: &Cluster) -> bool {
    let new = pods.iter().any(|pod| is_of(pod, ETCD) && !pod.pod.spec.init_containers.is_empty());
    new && is_ready(pods, ETCD) && restore::is_unpacked(&cluster.folder, &cluster.record)
}

/// Whether a program says of itself that it is ready.
fn is_ready(pods: &[Arc<PodStatus>], owner: Owner) -> bool {
    let pod = pods.iter().find(|pod| is_of(pod, owner));
    pod.is_some_and(|pod| {
        let main = || pod.containers.iter().filter(|container| container.role == Role::Main);
        main().count() > 0 && main().all(|container| container.ready)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::components::{API_SERVER, KUBELET, OWNERS};
    use crate::state::DesiredConfig;
    use crate::state::desired::Source;
    use crate::state::storage::Volumes;
    use ingot_machine_config::{Config, Machine};

    fn want(role: NodeRole) -> Want {
        let section = Section { role, ..Section::default() };
        let machine = Machine { kubernetes: Some(section), ..Machine::default() };
        let config = Config { machine, ..Config::default() };
        let desired =
            DesiredConfig { generation: 1, source: Source::Api, text: String::new(), config };
        Want { config: Some(Arc::new(desired)) }
    }

    fn controller(folder: &std::path::Path) -> KubernetesController {
        let state = State::new();
        state.storage.publish(Volumes { state: VolumeState::Mounted, var: VolumeState::Mounted });
        KubernetesController::new(state, Pods::new(), Kubernetes::at(folder.to_owned()))
    }

    #[test]
    fn at_first_only_what_needs_nobody_is_started() {
        assert_eq!(due(&OWNERS, |_| false, |_| false), [ETCD, KUBELET]);
        // After a power cut everything was ready when it was last seen.
        assert_eq!(due(&OWNERS, |_| true, |_| false), [ETCD, KUBELET]);
        assert_eq!(due(&OWNERS, |_| true, |owner| owner == ETCD), [ETCD, API_SERVER, KUBELET]);
        // What runs goes on, though nothing is known of what it needs yet.
        assert_eq!(
            due(&OWNERS, |_| false, |owner| owner == API_SERVER),
            [ETCD, API_SERVER, KUBELET]
        );
    }

    #[tokio::test]
    async fn a_node_without_a_cluster_says_so_and_waits_for_the_bootstrap() {
        let folder = tempfile::tempdir().unwrap();
        for want in [Want::default(), want(NodeRole::Worker), want(NodeRole::ControlPlane)] {
            let mut controller = controller(folder.path());
            let have = controller.observe(&want).await.unwrap();
            let steps = controller.plan(&want, &have);
            assert!(matches!(steps.as_slice(), [Step::Publish]), "{steps:?}");
            controller.apply(&want, Step::Publish).await.unwrap();
            assert_eq!(controller.pods.control_plane().unwrap().len(), 0);
            let have = controller.observe(&want).await.unwrap();
            assert!(controller.plan(&want, &have).is_empty());
            let section = want.config.as_ref().map(|_| ());
            match (section, controller.outcome(&want, &have)) {
                (None, Outcome::Ok(_)) => {}
                (Some(()), Outcome::Waiting(what, _)) => assert!(what.contains("bootstrap")),
                (Some(()), Outcome::Failed(what)) => {
                    assert!(what.contains("ingotctl join-token"), "{what}")
                }
                (section, outcome) => panic!("{section:?} {outcome:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_clock_before_the_cluster_makes_nothing_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut controller = controller(folder.path());
        let mut record = crate::kubernetes::tests::cluster().record;
        record.made_at = 32_503_680_000;
        controller.kubernetes.store(record).unwrap();
        let error = controller.observe(&want(NodeRole::ControlPlane)).await.unwrap_err();
        assert!(error.to_string().contains("time.servers"), "{error:#}");
        assert!(!folder.path().join("pki").exists());
    }

    #[tokio::test]
    async fn a_worker_notes_its_cluster_first() {
        let folder = tempfile::tempdir().unwrap();
        let controller = controller(folder.path());
        controller.kubernetes.store(crate::kubernetes::tests::worker().record).unwrap();
        let moved = JoinToken {
            servers: vec!["10.0.2.99:6443".into()],
            ..crate::kubernetes::tests::join_token()
        };
        let section = Section {
            role: NodeRole::Worker,
            join_token: Some(moved.to_text()),
            ..Section::default()
        };
        let joins = controller.joins(&section).unwrap().unwrap();
        assert_eq!(joins.joined.as_ref().unwrap().servers, ["10.0.2.99:6443"]);
        controller.join(joins).await.unwrap();
        assert_eq!(controller.joins(&section), Ok(None));
        let master = Section { role: NodeRole::ControlPlane, ..section };
        assert!(matches!(controller.joins(&master), Err(Refused::Joined { .. })));
    }

    #[tokio::test]
    async fn a_damaged_record_stops_nothing_and_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cluster.json"), "{").unwrap();
        let mut controller = controller(folder.path());
        let error = controller.observe(&want(NodeRole::ControlPlane)).await.unwrap_err();
        assert!(format!("{error:#}").contains("cluster.json is damaged"), "{error:#}");
        assert_eq!(controller.pods.control_plane(), None);
    }
}
