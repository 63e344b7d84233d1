//! Looks at the nodes of the cluster: keeps routes to the pods of the others, grants kubelets of workers their serving certificates, puts
//! this node back into service after a reboot, and says on a worker whether it is ready.

use crate::controllers::network::netlink::{Kernel, Netlink, Origin, Route};
use crate::controllers::{Controller, Outcome, Want};
use crate::kubernetes::access::{client, get, patch};
use crate::kubernetes::addons::refusal;
use crate::kubernetes::client::{Call, Client};
use crate::kubernetes::nodes::{CORDONED, Node, judge, read, routes};
use crate::kubernetes::record::Record;
use crate::kubernetes::{Kubernetes, Seen};
use crate::state::{Severity, State};
use anyhow::Context as _;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::Method;
use ingot_pki::CertificateRequest;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two looks: a new worker's first certificate, and the way to its pods, wait this long at most.
const INTERVAL: Duration = Duration::from_secs(30);
/// The same while something is not there yet.
const SOON: Duration = Duration::from_secs(5);
/// A client is made anew after this; its certificate is good for an hour.
const CLIENT_AGE: Duration = Duration::from_secs(10 * 60);
/// A page of nodes, and of requests: more than one page is more than a cluster of this kind has.
const PAGE: u32 = 500;
/// Where configurations of CNI plugins are, in a folder that is always there; with one, ways between nodes are theirs.
const CNI: &str = "/var/lib/cni/etc/net.d";
/// Who signs serving certificates of kubelets.
const SIGNER: &str = "kubernetes.io/kubelet-serving";

/// The controller.
pub(crate) struct NodesController {
    state: State,
    kubernetes: Kubernetes,
    record: watch::Receiver<Option<Arc<Record>>>,
    netlink: Option<Netlink>,
    client: Option<(Client, Instant)>,
    settled: bool,
}

/// What is there.
pub(crate) struct Have {
    /// `None` without a cluster.
    cluster: Option<Arc<Record>>,
    /// Why nothing could be asked.
    answers: Result<(), String>,
    nodes: Vec<Node>,
    requests: Vec<Value>,
    kernel: Kernel,
    /// CNI plugins see to the ways between nodes.
    plugins: bool,
}

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Step {
    /// Lead to the pods of another node.
    AddRoute(Route),
    /// No longer.
    RemoveRoute(Route),
    /// Answer a request for a serving certificate: whose, and why not.
    Answer(Box<Value>, Result<(), String>),
    /// Take pods again.
    Uncordon(String),
}

impl NodesController {
    /// Says what it sees in `kubernetes`.
    pub(crate) fn new(state: State, kubernetes: Kubernetes) -> Self {
        let record = kubernetes.subscribe();
        Self { state, kubernetes, record, netlink: None, client: None, settled: false }
    }

    /// A client of the API server, made anew now and then: a worker's kubelet renews what it is made of.
    fn client(&mut self, record: &Record) -> anyhow::Result<Client> {
        if let Some((client, made)) = &self.client
            && made.elapsed() < CLIENT_AGE
        {
            return Ok(client.clone());
        }
        let made = client(&self.kubernetes, record)?;
        self.client = Some((made.clone(), Instant::now()));
        Ok(made)
    }

    async fn look(&mut self, have: &mut Have, record: &Record) -> anyhow::Result<()> {
        let client = self.client(record)?;
        let list = get(&client, &format!("/api/v1/nodes?limit={PAGE}")).await?;
        have.nodes = read(&list);
        if record.joined.is_none() {
            let path = format!(
                "/apis/certificates.k8s.io/v1/certificatesigningrequests?limit={PAGE}&fieldSelector=spec.signerName%3D{SIGNER}"
            );
            let list = get(&client, &path).await?;
            let all = list["items"].as_array().cloned().unwrap_or_default();
            have.requests = all.into_iter().filter(is_open).collect();
        }
        if self.netlink.is_none() {
            self.netlink = Some(Netlink::connect().context("open a netlink socket")?);
        }
        if let Some(netlink) = &self.netlink {
            have.kernel = netlink.look().await.context("look at the routes")?;
        }
        Ok(())
    }

    /// On a worker nobody else says whether the node is ready.
    fn tell(&self, have: &Have, record: &Record) {
        if record.joined.is_none() {
            return;
        }
        let own = have.nodes.iter().find(|node| node.name == record.node);
        let node = match (&have.answers, own) {
            (Err(error), _) => (false, error.clone()),
            (Ok(()), None) => (false, "the kubelet has not registered it".to_owned()),
            (Ok(()), Some(node)) => {
                node.ready.clone().unwrap_or((false, "it has no condition".to_owned()))
            }
        };
        let before = self.kubernetes.seen().node;
        if node.0 && before.is_none_or(|(ready, _)| !ready) {
            let object = format!("node/{}", record.node);
            self.state.events.record(Severity::Info, "NodeReady", object, node.1.clone());
        }
        self.kubernetes.set_seen(Seen { node: Some(node), addons: Vec::new() });
    }

    async fn carry_out(&mut self, record: &Record, step: Step) -> anyhow::Result<()> {
        match (step, &self.netlink) {
            (Step::AddRoute(route), Some(netlink)) => {
                netlink.add_route(route).await.with_context(|| format!("lead to {}", route.to))
            }
            (Step::RemoveRoute(route), Some(netlink)) => {
                let removed = netlink.remove_route(route).await;
                removed.with_context(|| format!("lead to {} no longer", route.to))
            }
            (Step::AddRoute(_) | Step::RemoveRoute(_), None) => Ok(()),
            (Step::Answer(request, verdict), _) => self.answer(record, *request, verdict).await,
            (Step::Uncordon(name), _) => {
                let client = self.client(record)?;
                let body = json!({
                    "metadata": {"annotations": {CORDONED: null}},
                    "spec": {"unschedulable": null},
                });
                patch(&client, &format!("/api/v1/nodes/{name}"), &body).await?;
                let message = "it takes pods again";
                self.state.events.record(
                    Severity::Info,
                    "Uncordoned",
                    format!("node/{name}"),
                    message,
                );
                Ok(())
            }
        }
    }

    async fn answer(
        &mut self,
        record: &Record,
        mut request: Value,
        verdict: Result<(), String>,
    ) -> anyhow::Result<()> {
        let name = request["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let user = request["spec"]["username"].as_str().unwrap_or_default().to_owned();
        let (kind, message) = match &verdict {
            Ok(()) => ("Approved", "a node asks for itself".to_owned()),
            Err(reason) => ("Denied", reason.clone()),
        };
        // Items of a list do not say what they are.
        request["apiVersion"] = json!("certificates.k8s.io/v1");
        request["kind"] = json!("CertificateSigningRequest");
        request["status"]["conditions"] = json!([
            {"type": kind, "status": "True", "reason": "IngotAgent", "message": message},
        ]);
        let call = Call {
            method: Method::PUT,
            path: &format!(
                "/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}/approval"
            ),
            content_type: "application/json",
            body: serde_json::to_vec(&request)?,
        };
        let answer = self.client(record)?.call(call).await?;
        let status = answer.status;
        anyhow::ensure!(status.is_success(), "{}", refusal(status, &answer.body));
        let (severity, event) = match verdict {
            Ok(()) => (Severity::Info, "CertificateApproved"),
            Err(_) => (Severity::Warning, "CertificateDenied"),
        };
        self.state.events.record(severity, event, user, message);
        Ok(())
    }
}

/// Whether a folder holds a configuration of CNI plugins, by the names that the pod engine reads.
fn has_plugins(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    files.map(|file| file.path()).any(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        matches!(extension, Some("conf" | "conflist" | "json")) && !name.starts_with('.')
    })
}

/// Nobody has answered it.
fn is_open(request: &Value) -> bool {
    request["status"]["conditions"].as_array().is_none_or(Vec::is_empty)
}

/// What to do about a request.
fn verdict(request: &Value, nodes: &[Node]) -> Result<(), String> {
    let spec = &request["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let groups = spec["groups"].as_array().cloned().unwrap_or_default();
    let groups: Vec<&str> = groups.iter().filter_map(Value::as_str).collect();
    let pem = BASE64_STANDARD.decode(text(&spec["request"])).unwrap_or_default();
    let pem = String::from_utf8_lossy(&pem);
    let asked = CertificateRequest::from_pem(&pem).map_err(|error| error.to_string())?;
    judge(&asked, &text(&spec["username"]), &groups, nodes)
}

impl Controller for NodesController {
    type Have = Have;
    type Step = Step;

    const NAME: &'static str = "nodes";

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Have> {
        let section = want.config.as_ref().and_then(|c| c.config.machine.kubernetes.as_ref());
        let cluster = self.record.borrow_and_update().clone().filter(|_| section.is_some());
        let plugins = has_plugins(Path::new(CNI));
        let mut have = Have {
            cluster: cluster.clone(),
            answers: Ok(()),
            nodes: Vec::new(),
            requests: Vec::new(),
            kernel: Kernel::default(),
            plugins,
        };
        let Some(record) = cluster else {
            self.settled = true;
            return Ok(have);
        };
        let looked = self.look(&mut have, &record).await;
        have.answers = looked.map_err(|error| format!("{error:#}"));
        if have.answers.is_err() {
            self.client = None;
        }
        self.tell(&have, &record);
        let own = have.nodes.iter().find(|node| node.name == record.node);
        self.settled = own.is_some_and(|node| node.ready.as_ref().is_some_and(|(ready, _)| *ready));
        Ok(have)
    }

    fn plan(&self, _: &Want, have: &Have) -> Vec<Step> {
        let (Some(record), Ok(())) = (&have.cluster, &have.answers) else { return Vec::new() };
        plan(have, &record.node)
    }

    async fn apply(&mut self, _: &Want, step: Step) -> anyhow::Result<()> {
        match self.kubernetes.record() {
            Some(record) => self.carry_out(&record, step).await,
            None => Ok(()),
        }
    }

    fn outcome(&self, _: &Want, have: &Have) -> Outcome {
        let Some(record) = &have.cluster else {
            return Outcome::Ok("there is no cluster on this node".into());
        };
        if let Err(reason) = &have.answers {
            return Outcome::Waiting(format!("the API server: {reason}"), None);
        }
        let (_, far) = routes(&have.nodes, &record.node, &have.kernel);
        if !far.is_empty() && !have.plugins {
            let far = far.join(", ");
            return Outcome::Failed(format!(
                "{far}: not in a network of this node, so pods there cannot be reached; use a CNI plugin, or one network"
            ));
        }
        Outcome::Ok(format!("{} nodes", have.nodes.len()))
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

fn plan(have: &Have, own: &str) -> Vec<Step> {
    let (wanted, _) = routes(&have.nodes, own, &have.kernel);
    let wanted = if have.plugins { Vec::new() } else { wanted };
    let there = || have.kernel.routes.iter().filter(|route| route.origin == Origin::Cluster);
    let gone = there().filter(|route| !wanted.contains(route)).copied().map(Step::RemoveRoute);
    let new = wanted.iter().filter(|route| !there().any(|have| have == *route));
    let mut steps: Vec<Step> = gone.collect();
    steps.extend(new.copied().map(Step::AddRoute));
    for request in &have.requests {
        steps.push(Step::Answer(Box::new(request.clone()), verdict(request, &have.nodes)));
    }
    if have.nodes.iter().any(|node| node.name == own && node.cordoned) {
        steps.push(Step::Uncordon(own.to_owned()));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have(nodes: Vec<Node>, requests: Vec<Value>) -> Have {
        let kernel = Kernel::default();
        Have { cluster: None, answers: Ok(()), nodes, requests, kernel, plugins: false }
    }

    #[test]
    fn a_request_that_cannot_be_read_is_denied_and_an_answered_one_left_alone() {
        let request = json!({"spec": {"username": "system:node:two", "request": "e30="}});
        let steps = plan(&have(Vec::new(), vec![request.clone()]), "one");
        assert!(matches!(steps.as_slice(), [Step::Answer(_, Err(_))]), "{steps:?}");
        assert!(is_open(&request));
        assert!(!is_open(&json!({"status": {"conditions": [{"type": "Denied"}]}})));
    }

    #[test]
    fn ways_between_nodes_are_the_plugins_only_where_one_is_configured() {
        let node = tempfile::tempdir().unwrap();
        let folder = node.path().join("net.d");
        assert!(!has_plugins(&folder));
        // The pod engine makes it on every node.
        std::fs::create_dir(&folder).unwrap();
        assert!(!has_plugins(&folder));
        std::fs::write(folder.join(".10-half.conflist"), "{}").unwrap();
        assert!(!has_plugins(&folder));
        std::fs::write(folder.join("10-net.conflist"), "{}").unwrap();
        assert!(has_plugins(&folder));
    }

    #[test]
    fn only_its_own_agent_puts_a_node_back_into_service() {
        let node = |name: &str| Node { name: name.into(), cordoned: true, ..Node::default() };
        let steps = plan(&have(vec![node("one"), node("two")], Vec::new()), "one");
        assert!(matches!(steps.as_slice(), [Step::Uncordon(name)] if name == "one"), "{steps:?}");
    }

    #[test]
    fn routes_to_nodes_that_are_gone_go() {
        let mut have = have(Vec::new(), Vec::new());
        let route = Route {
            to: [10, 244, 9, 0].into(),
            prefix: 24,
            via: Some([10, 0, 2, 99].into()),
            index: 2,
            metric: 1024,
            origin: Origin::Cluster,
        };
        have.kernel.routes = vec![route, Route { origin: Origin::Dhcp, ..route }];
        let steps = plan(&have, "one");
        assert!(matches!(steps.as_slice(), [Step::RemoveRoute(gone)] if *gone == route));
    }
}
