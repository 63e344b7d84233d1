//! A node that becomes a cluster: its machine, the operator's `ingotctl`, the user's kubectl, and what is kept when a check fails.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ingot_api::machine::v1::Container;
use ingot_api::machine::v1::container::State;
use serde_json::json;

use super::command::{Ran, run};
use super::kubectl::Kubectl;
use crate::artifacts::Artifacts;
use crate::credentials::Credentials;
use crate::documents;
use crate::machine::{Firmware, Machine, MachineBuilder};
use crate::registry::Registry;
use crate::report::Report;
use crate::wait;

/// Where the API server of a control plane listens.
pub const API_SERVER_PORT: u16 = 6443;
/// A port that services of type NodePort may ask for, reachable from outside.
pub const NODE_PORT: u16 = 30080;
/// One call of `ingotctl`; `bootstrap` returns before the cluster is there.
const OPERATOR_LIMIT: Duration = Duration::from_secs(300);
/// From `bootstrap` until the API server answers, and until the node is Ready: emulation needs minutes for each on a busy host.
pub const READY_LIMIT: Duration = Duration::from_secs(20 * 60);
/// Asking a node that may be the very thing that hangs.
const EVIDENCE_LIMIT: Duration = Duration::from_secs(60);

/// Pods that the agent runs of a control plane, in its namespace.
pub const CONTROL_PLANE: &[&str] =
    &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];
/// Their namespace.
pub const CONTROL_PLANE_NAMESPACE: &str = "control-plane";

/// What a cluster's machine is to be.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Name of the machine and of its evidence folder.
    pub name: &'a str,
    /// Memory of the machine.
    pub memory_mib: u32,
    /// Further lines of the config's section `kubernetes`, each with two blanks before it.
    pub kubernetes: &'a str,
}

/// A machine with a control plane, once it is bootstrapped.
#[derive(Debug)]
pub struct Cluster {
    /// The node.
    pub machine: Machine,
    /// The user's command line.
    pub kubectl: Kubectl,
    /// The node's config as it was booted with; nothing when it was not booted by [`Cluster::boot`].
    pub config: String,
    contexts: PathBuf,
    kubeconfig: PathBuf,
    // Serves the images of the tests for as long as there is the cluster.
    _registry: Option<Registry>,
}

impl Cluster {
    /// Boots a node with a control plane's config that nobody has bootstrapped yet. `kube` is the program with kubectl in it, for this
    /// machine; images that are not in the node come from `images`.
    pub async fn boot(
        artifacts: &Artifacts,
        kube: &Path,
        images: Option<&Path>,
        shape: Shape<'_>,
    ) -> anyhow::Result<Self> {
        let registry = images.map(Registry::start).transpose()?;
        let credentials = Rc::new(Credentials::generate()?);
        let url = registry.as_ref().map(Registry::guest_url);
        let config = machine_document(&credentials, shape, url.as_deref());
        let machine = builder(artifacts, shape).cidata(config.clone()).credentials(credentials);
        Ok(Self { config, ..Self::of(machine.boot().await?, kube, registry)? })
    }

    /// The cluster of a machine that is there already.
    pub fn of(machine: Machine, kube: &Path, registry: Option<Registry>) -> anyhow::Result<Self> {
        let home = machine.directory().join("operator");
        fs_err::create_dir_all(&home)?;
        let contexts = home.join("contexts.yaml");
        write_contexts(&machine, &contexts)?;
        let kubeconfig = home.join("kubeconfig");
        let program = home.join("kubectl");
        symlink(kube, &program).context("make a link called kubectl")?;
        let kubectl = Kubectl::new(&program, &kubeconfig, &home);
        let config = String::new();
        Ok(Self { machine, kubectl, config, contexts, kubeconfig, _registry: registry })
    }

    /// The same, of a node that was booted with this config.
    #[must_use]
    pub fn with_config(self, config: String) -> Self {
        Self { config, ..self }
    }

    /// Runs `ingotctl` with these words as the node's administrator.
    pub async fn ingotctl(&self, words: &[&str]) -> anyhow::Result<Ran> {
        ingotctl(&self.machine, &self.contexts, words).await
    }

    /// Gives the node this config.
    pub async fn apply_config(&self, config: &str) -> anyhow::Result<()> {
        let answer = self.machine.api()?.apply(config).await?;
        ensure!(answer.problems.is_empty(), "the node refuses a config: {:?}", answer.problems);
        Ok(())
    }

    /// Makes the cluster and a kubeconfig for it, and waits for the API server.
    pub async fn bootstrap(&self) -> anyhow::Result<()> {
        self.ingotctl(&["bootstrap"]).await?.ok()?;
        self.fetch_kubeconfig().await?;
        self.wait_api_server().await
    }

    /// Writes the administrator's kubeconfig, as soon as the node has one.
    pub async fn fetch_kubeconfig(&self) -> anyhow::Result<()> {
        let port = self.machine.forwarded(API_SERVER_PORT)?;
        let server = format!("https://127.0.0.1:{port}");
        let text = wait::until("a kubeconfig", READY_LIMIT, async || {
            Ok(Some(self.ingotctl(&["kubeconfig", "--server", &server]).await?.ok()?))
        })
        .await?;
        self.write_kubeconfig(&text)
    }

    /// Gives the user this kubeconfig.
    pub fn write_kubeconfig(&self, text: &str) -> anyhow::Result<()> {
        Ok(fs_err::write(&self.kubeconfig, text)?)
    }

    /// Waits until the API server says that it is ready.
    pub async fn wait_api_server(&self) -> anyhow::Result<()> {
        self.kubectl.until(&["get", "--raw", "/readyz"], "ok", READY_LIMIT).await.map(drop)
    }

    /// Waits until the node takes pods.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        // kubectl refuses to wait for all of nothing, and the node registers itself late.
        self.kubectl.until(&["get", "nodes", "-o", "name"], "node/", READY_LIMIT).await?;
        self.kubectl.wait_for("condition=Ready", &["node", "--all"], READY_LIMIT).await
    }

    /// Name of the only node.
    pub async fn node(&self) -> anyhow::Result<String> {
        self.kubectl.field(&["nodes"], "{.items[0].metadata.name}").await
    }

    /// Runs one check, `limit` at most. A failure is printed with its evidence; the run goes on. Tells whether it passed.
    pub async fn check(
        &mut self,
        report: &Report,
        name: &str,
        limit: Duration,
        test: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> bool {
        let begin = Instant::now();
        let result = match tokio::time::timeout(limit, Box::pin(test(self))).await {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("it did not end in {} s", limit.as_secs())),
        };
        let Err(error) = result else {
            report.passed(name, begin);
            return true;
        };
        report.failed(name, begin, &error);
        match self.keep_evidence(name, &error).await {
            Ok(folder) => println!("        evidence: {}", folder.display()),
            Err(error) => println!("        no evidence: {error:#}"),
        }
        false
    }

    /// Everything that is known about the cluster and its node, in the folder of this check.
    async fn keep_evidence(
        &mut self,
        check: &str,
        error: &anyhow::Error,
    ) -> anyhow::Result<PathBuf> {
        let folder = self.machine.keep_evidence(check, &format!("{error:?}")).await?;
        for name in CONTROL_PLANE {
            let words = ["logs", "-n", CONTROL_PLANE_NAMESPACE, name, "--tail", "2000"];
            self.keep(&folder, &format!("{name}.log"), self.ingotctl(&words)).await?;
        }
        self.keep(&folder, "health.txt", self.ingotctl(&["health"])).await?;
        for (file, words) in [
            ("all.txt", &["get", "all,endpointslices,pv,pvc,nodes", "-A", "-o", "wide"][..]),
            ("kubernetes-events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"]),
            ("described.txt", &["describe", "pods,nodes", "-A"]),
            ("system-logs.txt", &["logs", "-n", "kube-system", "-l", "k8s-app", "--prefix"]),
        ] {
            self.keep(&folder, file, self.kubectl.run(words, "")).await?;
        }
        Ok(folder)
    }

    /// Writes what a command says, or that it says nothing: evidence never hides the failure.
    async fn keep(
        &self,
        folder: &Path,
        name: &str,
        said: impl Future<Output = anyhow::Result<Ran>>,
    ) -> anyhow::Result<()> {
        let text = match tokio::time::timeout(EVIDENCE_LIMIT, said).await {
            Ok(Ok(ran)) => ran.said(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        };
        Ok(fs_err::write(folder.join(name), text + "\n")?)
    }

    /// How often a running component of the control plane was started again. An error while it does not run.
    pub async fn restarts(&self, component: &str) -> anyhow::Result<u32> {
        Ok(self.running(component).await?.restarts)
    }

    /// Which run of a component of the control plane this is. An error while it does not run.
    pub async fn run_of(&self, component: &str) -> anyhow::Result<String> {
        Ok(self.running(component).await?.id)
    }

    async fn running(&self, component: &str) -> anyhow::Result<Container> {
        let pods = self.machine.api()?.pods().await?;
        let found = pods
            .iter()
            .find(|pod| pod.namespace == CONTROL_PLANE_NAMESPACE && pod.name == component)
            .with_context(|| format!("the node runs no {component}"))?;
        let container = found.containers.first();
        let container = container.with_context(|| format!("{component} has no container"))?;
        let state = container.state();
        ensure!(state == State::Running, "{component} is {state:?}");
        Ok(container.clone())
    }
}

/// The description of a cluster's machine, without its config.
pub fn builder(artifacts: &Artifacts, shape: Shape<'_>) -> MachineBuilder {
    Machine::builder(artifacts, shape.name)
        .firmware(Firmware::Direct)
        .memory_mib(shape.memory_mib)
        .disk_gib(8)
        .forward(API_SERVER_PORT)
        .forward(NODE_PORT)
}

/// The config of a node that is a control plane and takes pods.
#[must_use]
pub fn machine_document(
    credentials: &Credentials,
    shape: Shape<'_>,
    registry: Option<&str>,
) -> String {
    let machine = documents::machine(credentials, &shape.name.replace('_', "-"));
    let machine = match registry {
        Some(url) => documents::with_mirror(&machine, url),
        None => machine,
    };
    format!("{machine}kubernetes:\n  role: control-plane\n{}", shape.kubernetes)
}

/// Runs `ingotctl` with these words and this file of contexts.
pub(super) async fn ingotctl(
    machine: &Machine,
    contexts: &Path,
    words: &[&str],
) -> anyhow::Result<Ran> {
    let mut command = Command::new(&machine.artifacts().tools.ingotctl);
    command.arg("--config").arg(contexts).args(["--timeout", "120s"]).args(words);
    run(command, "", OPERATOR_LIMIT).await
}

/// Writes the operator's file of contexts for a machine; nobody else may read it.
pub(super) fn write_contexts(machine: &Machine, path: &Path) -> anyhow::Result<()> {
    fs_err::write(path, contexts_of(machine))?;
    fs_err::set_permissions(path, Permissions::from_mode(0o600)).map_err(Into::into)
}

/// The operator's file of contexts for one machine. JSON is YAML.
fn contexts_of(machine: &Machine) -> String {
    let credentials = machine.credentials();
    let context = json!({
        "endpoint": format!("127.0.0.1:{}", machine.port()),
        "ca": credentials.ca.certificate().to_pem(),
        "certificate": credentials.admin.certificate.to_pem(),
        "key": credentials.admin.key.to_pem().as_str(),
    });
    json!({"current": "test", "contexts": {"test": context}}).to_string()
}
