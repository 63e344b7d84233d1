//! The demo of a cluster: one node becomes upstream Kubernetes by one command, runs pods with limits behind a service, and leaves a real
//! kubectl for it. Everything is typed as a person would type it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use comfy_table::Table;
use ingot_image_builder::tools::Tools;
use ingot_qemu_tests::artifacts::Artifacts;
use ingot_qemu_tests::documents::WORKLOAD;
use ingot_qemu_tests::kubernetes::Kubectl;
use ingot_qemu_tests::kubernetes::cluster::{API_SERVER_PORT, NODE_PORT, READY_LIMIT};
use ingot_qemu_tests::machine::Machine;
use ingot_qemu_tests::wait;

use super::operator::{Operator, display};
use super::{
    Args, PROFILE, boot, directory, give_up, in_place_of_previous, pairing_code, pid_file,
};
use super::{step, summary, waiting};
use crate::{image, kubernetes};

/// Memory of the node.
const MEMORY_MIB: u32 = 2048;
/// A pod starts, or a service answers, in emulation.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// What makes the machine document one of a cluster.
const SECTION: &str = "kubernetes:\n  role: control-plane\n";

/// A web server with two replicas and limits, behind a port of the node.
fn manifest() -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {WORKLOAD}
        imagePullPolicy: Never
        args: [serve, '8080']
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{tcpSocket: {{port: 8080}}}}
        resources: {{limits: {{cpu: 100m, memory: 32Mi}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {NODE_PORT}}}]
"
    )
}

/// Runs `cargo xtask demo --kubernetes`.
pub(super) fn run(args: &Args, tools: &Tools) -> anyhow::Result<()> {
    step("building Kubernetes from source (the first time takes many minutes)");
    let built = kubernetes::ensure()?;
    step("building the image");
    image::build_with(PROFILE, args.quick, Some(built.clone()))?;
    step("building ingotctl");
    let program = built.program.clone();
    let artifacts = image::artifacts_with(tools, PROFILE, args.quick, Some(built))?;
    let directory = directory();
    in_place_of_previous(&directory, demo(args, &artifacts, &program, &directory))
}

async fn demo(
    args: &Args,
    artifacts: &Artifacts,
    kube: &Path,
    directory: &Path,
) -> anyhow::Result<()> {
    let builder = Machine::builder(artifacts, "demo")
        .memory_mib(MEMORY_MIB)
        .disk_gib(8)
        .forward(API_SERVER_PORT)
        .forward(NODE_PORT);
    let mut machine = boot(args, builder, directory).await?;
    let result = Box::pin(show(args, &mut machine, kube, directory)).await;
    if let Err(error) = &result {
        give_up(&mut machine, error).await?;
    }
    result
}

async fn show(
    args: &Args,
    machine: &mut Machine,
    kube: &Path,
    directory: &Path,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut table = summary();
    let code = pairing_code(machine).await?;
    let operator = Operator::generate(directory, machine, SECTION, &[])?;
    operator.apply(&code)?;
    let mut api = operator.api()?;
    // A node that waits for its bootstrap is not what its config says; it refuses one until it has a name and an address.
    let bootstrap = async || operator.bootstrap().map(Some);
    waiting("the node takes its bootstrap", wait::until("a bootstrap", LIMIT, bootstrap)).await?;
    let user = User::new(directory, kube, &operator, machine).await?;
    let kubectl = &user.kubectl;
    let server = kubectl.until(&["get", "--raw", "/readyz"], "ok", READY_LIMIT);
    waiting("etcd and the API server start", server).await?;
    waiting("the node becomes Ready", ready(kubectl)).await?;
    user.show(&["get", "nodes", "-o", "wide"]).await?;
    let nodes = kubectl.ok(&["get", "nodes", "--no-headers"]).await?;
    let state = nodes.split_whitespace().nth(1).unwrap_or_default();
    table.add_row(["kubectl get nodes", "Ready", state]);
    table.add_row(["from power-on to that", "", &format!("{} s", begin.elapsed().as_secs())]);
    workload(machine, &user, &mut table).await?;
    user.show(&["get", "pods", "-A", "-o", "wide"]).await?;
    let words = ["get", "events", "-A", "--field-selector", "reason=Pulling", "-o", "name"];
    let pulled = kubectl.ok(&words).await?.lines().count();
    ensure!(pulled == 0, "{pulled} images were pulled");
    table.add_row(["images pulled", "0", "0"]);
    let memory = api.status().await?.memory.context("the node says nothing of its memory")?;
    let used = memory.total_bytes.saturating_sub(memory.available_bytes) >> 20;
    table.add_row(["memory of the whole node in use", "", &format!("{used} MiB")]);
    if args.once {
        waiting("powering off by the API", machine.shutdown_by(&mut api)).await?;
        let _gone = fs_err::remove_file(pid_file(directory));
        table.add_row(["power off by the API", "the machine is off", "off"]);
        println!("\n{table}\n\nthe demo is over; without --once the node runs on");
    } else {
        println!("\n{table}\n\n{}", user.next_commands(&operator, machine)?);
    }
    Ok(())
}

async fn ready(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.until(&["get", "nodes", "-o", "name"], "node/", READY_LIMIT).await?;
    kubectl.wait_for("condition=Ready", &["node", "--all"], READY_LIMIT).await
}

/// Two pods with limits behind a service, asked from outside.
async fn workload(machine: &Machine, user: &User, table: &mut Table) -> anyhow::Result<()> {
    let kubectl = &user.kubectl;
    let accounts = ["get", "serviceaccounts", "-n", "default"];
    kubectl.until(&accounts, "default", LIMIT).await?;
    step("kubectl apply: a deployment of two web servers, 100m and 32 MiB each, and a service");
    kubectl.apply(&manifest()).await?;
    let started = kubectl.rolled_out(&["deployment/web"], LIMIT);
    waiting("both web servers start", started).await?;
    let words = ["deployment/web"];
    let limit = kubectl.exec(&words, &["/workload", "cat", "/sys/fs/cgroup/memory.max"]).await?;
    ensure!(limit.trim() == (32 << 20).to_string(), "memory.max of the pod is {limit:?}");
    table.add_row(["memory.max in a pod with 32Mi", "33554432", limit.trim()]);
    let url = format!("127.0.0.1:{}", machine.forwarded(NODE_PORT)?);
    let asked = wait::until("the service to answer", LIMIT, async || {
        Ok(Some(get(&url).await?).filter(|answer| answer.contains("hello from a pod")))
    });
    waiting("the service answers from outside the node", asked).await?;
    table.add_row([&format!("http://{url}/"), "hello from a pod", "hello from a pod"]);
    Ok(())
}

/// The answer of a web server.
async fn get(address: &str) -> anyhow::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: demo\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(20), ask).await.context("no answer in 20 s")?
}

/// A person with a kubeconfig.
struct User {
    kubectl: Kubectl,
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl User {
    /// Fetches the kubeconfig, and names the program that has kubectl in it so.
    async fn new(
        directory: &Path,
        kube: &Path,
        operator: &Operator,
        machine: &Machine,
    ) -> anyhow::Result<Self> {
        let home = directory.join("operator");
        let (program, kubeconfig) = (home.join("kubectl"), home.join("kubeconfig"));
        symlink(kube, &program).context("make a link called kubectl")?;
        step("ingotctl kubeconfig");
        let port = machine.forwarded(API_SERVER_PORT)?;
        let text =
            wait::until("a kubeconfig", LIMIT, async || Ok(Some(operator.kubeconfig(port)?)));
        fs_err::write(&kubeconfig, text.await?)?;
        Ok(Self { kubectl: Kubectl::new(&program, &kubeconfig, &home), program, kubeconfig })
    }

    /// Shows the command as a person would type it, and what it says.
    async fn show(&self, words: &[&str]) -> anyhow::Result<()> {
        step(&format!("kubectl {}", words.join(" ")));
        for line in self.kubectl.ok(words).await?.lines() {
            println!("    {line}");
        }
        Ok(())
    }

    /// What a person may try now.
    fn next_commands(&self, operator: &Operator, machine: &Machine) -> anyhow::Result<String> {
        let port = machine.forwarded(NODE_PORT)?;
        let (program, kubeconfig) = (display(&self.program), display(&self.kubeconfig));
        let alias = operator.alias();
        Ok(format!(
            "the cluster runs on; use it:\n\n  \
             alias kubectl='{program} --kubeconfig {kubeconfig}'\n  {alias}\n  \
             kubectl get pods -A\n  \
             kubectl scale deployment web --replicas 4\n  \
             kubectl logs -n kube-system deployment/coredns\n  \
             curl http://127.0.0.1:{port}/\n  \
             ingotctl health                  # what is up, what is waited for\n  \
             ingotctl pods                    # the control plane is pods of the node\n  \
             ingotctl etcd status\n  \
             ingotctl shutdown                # power it off"
        ))
    }
}
