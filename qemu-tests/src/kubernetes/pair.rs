//! Two nodes on one cable: a control plane, and a worker that joins it with a token. Knows how they are made and no check.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;

use super::cluster::{READY_LIMIT, Shape, builder, machine_document};
use super::{Cluster, Ran};
use crate::artifacts::Artifacts;
use crate::credentials::Credentials;
use crate::documents;
use crate::machine::{Firmware, Machine, USER_NETWORK_CARD};

/// A machine's end of the cable: its socket, its card's address, its own address there.
type End = (&'static str, &'static str, &'static str);

const FIRST: End = ("first", "52:54:00:77:00:01", "192.168.77.1/24");
const SECOND: End = ("second", "52:54:00:77:00:02", "192.168.77.2/24");
/// Name of the worker.
pub const WORKER: &str = "worker";

/// A cluster of two nodes.
#[derive(Debug)]
pub struct Pair {
    /// The control plane, and what its user has.
    pub cluster: Cluster,
    /// The worker, once it has [joined](Pair::join).
    pub worker: Option<Machine>,
    sockets: tempfile::TempDir,
}

impl Pair {
    /// Boots the control plane and makes it a cluster whose first node is Ready.
    pub async fn boot(
        artifacts: &Artifacts,
        kube: &Path,
        shape: Shape<'_>,
    ) -> anyhow::Result<Self> {
        let sockets = tempfile::Builder::new()
            .prefix("ingot-wire-")
            .tempdir()
            .context("make a directory for the ends of a cable")?;
        let credentials = Rc::new(Credentials::generate()?);
        let config = wired(&machine_document(&credentials, shape, None), FIRST);
        let (own, other) = (sockets.path().join(FIRST.0), sockets.path().join(SECOND.0));
        let machine = builder(artifacts, shape).cidata(config.clone()).credentials(credentials);
        let machine = machine.wire(&own, &other, FIRST.1).boot().await?;
        let mut cluster = Cluster::of(machine, kube, None)?.with_config(config);
        cluster.machine.wait_api().await?;
        cluster.bootstrap().await?;
        cluster.wait_ready().await?;
        Ok(Self { cluster, worker: None, sockets })
    }

    /// Boots a worker with so much memory and these pods of its own, and returns when the cluster has it Ready.
    pub async fn join(&mut self, memory_mib: u32, pods: &[String]) -> anyhow::Result<()> {
        let token = self.cluster.ingotctl(&["join-token"]).await?.ok()?;
        let credentials = Rc::clone(self.cluster.machine.credentials());
        let config = wired(&documents::machine(&credentials, WORKER), SECOND);
        let config =
            format!("{config}kubernetes:\n  role: worker\n  joinToken: {}\n", token.trim());
        let documents = [&[config][..], pods].concat();
        let (own, other) = (self.sockets.path().join(SECOND.0), self.sockets.path().join(FIRST.0));
        let machine = Machine::builder(self.cluster.machine.artifacts(), WORKER)
            .firmware(Firmware::Direct)
            .memory_mib(memory_mib)
            .wire(&own, &other, SECOND.1)
            .cidata(documents::stream(&documents))
            .credentials(credentials);
        let machine = self.worker.insert(machine.boot().await?);
        machine.wait_api().await?;
        let nodes = ["get", "nodes", "-o", "name"];
        self.cluster.kubectl.until(&nodes, &format!("node/{WORKER}"), READY_LIMIT).await?;
        let node = format!("node/{WORKER}");
        self.cluster.kubectl.wait_for("condition=Ready", &[&node], READY_LIMIT).await
    }

    /// The worker.
    pub fn worker(&self) -> anyhow::Result<&Machine> {
        self.worker.as_ref().context("no worker has joined")
    }

    /// Runs `ingotctl` with these words as the worker's administrator.
    pub async fn worker_ingotctl(&self, words: &[&str]) -> anyhow::Result<Ran> {
        let worker = self.worker()?;
        let contexts = worker.directory().join("contexts.yaml");
        super::cluster::write_contexts(worker, &contexts)?;
        super::cluster::ingotctl(worker, &contexts, words).await
    }

    /// Runs so many pods of a Deployment on the worker, and waits until they do.
    pub async fn fill(&self, pods: u32, limit: Duration) -> anyhow::Result<()> {
        let manifest = format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: many, namespace: default}}
spec:
  replicas: {pods}
  selector: {{matchLabels: {{app: many}}}}
  template:
    metadata: {{labels: {{app: many}}}}
    spec:
      nodeSelector: {{kubernetes.io/hostname: {WORKER}}}
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: main, image: '{}', imagePullPolicy: Never, args: [serve, '8080']}}
",
            documents::WORKLOAD
        );
        // The controller manager makes the account of a namespace a moment after it; pods before that are refused.
        let accounts = ["get", "serviceaccounts", "-n", "default"];
        self.cluster.kubectl.until(&accounts, "default", limit).await?;
        self.cluster.kubectl.apply(&manifest).await?;
        self.cluster.kubectl.rolled_out(&["-n", "default", "deployment/many"], limit).await
    }
}

/// A config whose node has an address of its own on the cable, and one from outside.
fn wired(config: &str, (_, mac, address): End) -> String {
    let links = format!(
        "  links:\n    - {{mac: \"{mac}\", addresses: [{address}], routerAdvertisements: false}}\n    \
         - {{mac: \"{USER_NETWORK_CARD}\", dhcp4: true}}\n"
    );
    config.replacen("time:\n", &format!("{links}time:\n"), 1)
}
