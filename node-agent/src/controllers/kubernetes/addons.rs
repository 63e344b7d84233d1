//! Applies the add-ons once the API server answers, again when they are others, and looks whether the node is ready.

use crate::controllers::{Controller, Outcome, Want};
use crate::kubernetes::addons::{Addon, Applier, digest, wanted};
use crate::kubernetes::authorities::Authorities;
use crate::kubernetes::client::{Call, Client};
use crate::kubernetes::{ADDONS, Cluster, Kubernetes, Seen, access, image};
use crate::state::{Severity, State};
use ingot_machine_config::v1::kubernetes::Role;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Between two looks while something is not there yet.
const SOON: Duration = Duration::from_secs(5);
/// Between two looks at a cluster that is as it should be.
const INTERVAL: Duration = Duration::from_secs(60);
/// Everything is applied again after this: what somebody deleted by mistake comes back.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// A client's certificate is made anew after this; it is good for an hour.
const CLIENT_AGE: Duration = Duration::from_secs(30 * 60);

/// The controller.
pub(crate) struct AddonsController {
    state: State,
    kubernetes: Kubernetes,
    client: Option<(Client, Instant)>,
    applied: Applied,
    labelled: bool,
    settled: bool,
    record: tokio::sync::watch::Receiver<Option<std::sync::Arc<crate::kubernetes::record::Record>>>,
}

/// What was applied last, by its digest, and when; nothing when that did not go well, for then the cluster is not what it was before
/// either.
#[derive(Debug, Default)]
struct Applied(Option<(String, Instant)>);

impl Applied {
    fn note(&mut self, digest: String, went_well: bool) {
        self.0 = went_well.then(|| (digest, Instant::now()));
    }

    fn is(&self, wanted: &str) -> bool {
        self.0.as_ref().is_some_and(|(digest, at)| digest == wanted && at.elapsed() < AGAIN)
    }
}

/// What is there.
pub(crate) struct Have {
    /// There is a cluster on this node.
    bootstrapped: bool,
    /// The API server answers, or why not.
    answers: Result<(), String>,
    /// Digest of what is wanted.
    wanted: String,
}

/// The one thing to do.
#[derive(Debug)]
pub(crate) enum Step {
    /// Apply everything.
    Apply,
}

impl AddonsController {
    /// Says what it sees in `kubernetes`.
    pub(crate) fn new(state: State, kubernetes: Kubernetes) -> Self {
        let record = kubernetes.subscribe();
        let applied = Applied::default();
        Self { state, kubernetes, client: None, applied, labelled: false, settled: false, record }
    }

    fn cluster(&self, want: &Want) -> Option<Cluster> {
        let section = want.config.as_ref()?.config.machine.kubernetes.clone()?;
        let here = section.role == Role::ControlPlane;
        let record = self.kubernetes.record().filter(|record| here && record.joined.is_none())?;
        Some(Cluster {
            addresses: record.addresses.clone(),
            record: (*record).clone(),
            section,
            image: image()?,
            memory_bytes: 0,
            folder: self.kubernetes.folder().to_owned(),
            token: None,
        })
    }

    fn client(&mut self, cluster: &Cluster) -> anyhow::Result<Client> {
        if let Some((client, made)) = &self.client
            && made.elapsed() < CLIENT_AGE
        {
            return Ok(client.clone());
        }
        let now = SystemTime::now();
        let authorities = Authorities::ensure(&cluster.folder, now)?;
        let identity = access::agent(&authorities, now)?;
        let client = Client::new(cluster.api_servers(), &authorities.cluster, &identity)?;
        self.client = Some((client.clone(), Instant::now()));
        Ok(client)
    }

    async fn is_answering(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let answer = self.client(cluster)?.call(Call::get("/readyz")).await?;
        anyhow::ensure!(answer.status.is_success(), "it says that it is not ready");
        Ok(())
    }

    async fn look_at_node(&mut self, cluster: &Cluster) {
        let Ok(client) = self.client(cluster) else { return };
        let applier = Applier::new(client);
        let name = &cluster.record.node;
        let mut seen = self.kubernetes.seen();
        match applier.node(name).await {
            Ok((ready, message)) => {
                if ready && seen.node.as_ref().is_none_or(|(before, _)| !before) {
                    let object = format!("node/{name}");
                    self.state.events.record(Severity::Info, "NodeReady", object, message.clone());
                }
                seen.node = Some((ready, message));
            }
            Err(error) => seen.node = Some((false, format!("{error:#}"))),
        }
        if !self.labelled {
            self.labelled = applier.label(name).await.is_ok();
        }
        self.kubernetes.set_seen(seen);
    }

    async fn apply_all(&mut self, cluster: &Cluster, addons: &[Addon]) -> anyhow::Result<()> {
        let mut applier = Applier::new(self.client(cluster)?);
        let mut results = Vec::new();
        for addon in addons {
            let result = applier.apply(addon).await;
            if let Err(error) = &result {
                let object = format!("addon/{}", addon.name);
                self.state.events.record(
                    Severity::Warning,
                    "AddonNotApplied",
                    object,
                    error.clone(),
                );
            }
            results.push((addon.name.clone(), result));
        }
        let failed = results.iter().find_map(|(name, result)| Some((name, result.as_ref().err()?)));
        let failed = failed.map(|(name, error)| format!("{name}: {error}"));
        let node = self.kubernetes.seen().node;
        self.kubernetes.set_seen(Seen { node, addons: results });
        match failed {
            Some(message) => anyhow::bail!(message),
            None => Ok(()),
        }
    }
}

impl Controller for AddonsController {
    type Have = Have;
    type Step = Step;

    const NAME: &'static str = "addons";

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Have> {
        let Some(cluster) = self.cluster(want) else {
            self.settled = true;
            return Ok(Have { bootstrapped: false, answers: Ok(()), wanted: String::new() });
        };
        let answers = self.is_answering(&cluster).await.map_err(|error| format!("{error:#}"));
        if answers.is_ok() {
            self.look_at_node(&cluster).await;
        }
        let ready = self.kubernetes.seen().node.is_some_and(|(ready, _)| ready);
        self.settled = answers.is_ok() && ready && self.labelled;
        let wanted = digest(&wanted(&cluster, Path::new(ADDONS)));
        Ok(Have { bootstrapped: true, answers, wanted })
    }

    fn plan(&self, _: &Want, have: &Have) -> Vec<Step> {
        if have.bootstrapped && have.answers.is_ok() && !self.applied.is(&have.wanted) {
            vec![Step::Apply]
        } else {
            Vec::new()
        }
    }

    async fn apply(&mut self, want: &Want, _: Step) -> anyhow::Result<()> {
        let Some(cluster) = self.cluster(want) else { return Ok(()) };
        let addons = wanted(&cluster, Path::new(ADDONS));
        let result = self.apply_all(&cluster, &addons).await;
        self.applied.note(digest(&addons), result.is_ok());
        result
    }

    fn outcome(&self, _: &Want, have: &Have) -> Outcome {
        if !have.bootstrapped {
            return Outcome::Ok("there is no cluster on this node".into());
        }
        if let Err(reason) = &have.answers {
            return Outcome::Waiting(format!("the API server: {reason}"), None);
        }
        match self.kubernetes.seen().node {
            Some((true, _)) => Outcome::Ok("add-ons are applied and the node is ready".into()),
            Some((false, message)) => {
                Outcome::Waiting(format!("the node to be ready: {message}"), None)
            }
            None => Outcome::Waiting("the node to be registered".into(), None),
        }
    }

    async fn woken(&mut self) {
        // An error means that the program ends. Cancel safe: a change stays marked unseen.
        if self.record.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn resync(&self) -> Option<Duration> {
        Some(if self.settled { INTERVAL } else { SOON })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_before_a_failure_is_applied_again() {
        let mut applied = Applied::default();
        assert!(!applied.is("good"));
        applied.note("good".into(), true);
        assert!(applied.is("good") && !applied.is("bad"));
        applied.note("bad".into(), false);
        assert!(!applied.is("bad"));
        // Else the words about the bad one stay, and what it left out stays away.
        assert!(!applied.is("good"));
    }
}
