//! The shortest way from a cluster to something of use: the add-ons run, a pod runs, a service leads to it, and nothing was pulled for it.

use anyhow::ensure;

use super::{CHECK_LIMIT, POD_LIMIT, prepare};
use crate::kubernetes::Cluster;
use crate::kubernetes::cluster::{CONTROL_PLANE, READY_LIMIT};
use crate::report::Report;

const NAMESPACE: &str = "basics";

const MANIFEST: &str = r"
apiVersion: v1
kind: Pod
metadata:
  name: server
  labels: {app: server}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: WORKLOAD
    imagePullPolicy: Never
    args: [serve, '8080']
    ports: [{containerPort: 8080}]
    readinessProbe: {tcpSocket: {port: 8080}}
    resources: {limits: {cpu: 200m, memory: 32Mi}}
---
apiVersion: v1
kind: Service
metadata:
  name: server
spec:
  selector: {app: server}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata:
  name: client
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: WORKLOAD
    imagePullPolicy: Never
    args: [tick, '1000']
";

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    cluster.check(report, "its add-ons run", READY_LIMIT * 2, add_ons).await;
    cluster.check(report, "a pod runs, speaks, and lets a program in", CHECK_LIMIT, pod).await;
    cluster
        .check(report, "a service leads to it, by address and by name", CHECK_LIMIT, service)
        .await;
    cluster.check(report, "a second bootstrap is refused", CHECK_LIMIT, second_bootstrap).await;
    let name = "the operator is told of health, services and the way to another version";
    cluster.check(report, name, CHECK_LIMIT, told).await;
    cluster.check(report, "nothing was pulled", CHECK_LIMIT, nothing_pulled).await;
}

async fn add_ons(cluster: &mut Cluster) -> anyhow::Result<()> {
    for name in ["daemonset/kube-proxy", "deployment/coredns"] {
        let words = ["get", "-n", "kube-system", name, "-o", "name"];
        cluster
            .kubectl
            .until(&words, name.split('/').next_back().unwrap_or(name), POD_LIMIT)
            .await?;
        cluster.kubectl.rolled_out(&["-n", "kube-system", name], READY_LIMIT).await?;
    }
    Ok(())
}

async fn pod(cluster: &mut Cluster) -> anyhow::Result<()> {
    prepare(cluster, NAMESPACE, MANIFEST).await?;
    let pods = ["-n", NAMESPACE, "pod/server", "pod/client"];
    cluster.kubectl.wait_for("condition=Ready", &pods, POD_LIMIT).await?;
    let kubectl = &cluster.kubectl;
    kubectl.until(&["logs", "-n", NAMESPACE, "client"], "tick 1", POD_LIMIT).await?;
    let limit = kubectl
        .exec(&["-n", NAMESPACE, "server"], &["/workload", "cat", "/sys/fs/cgroup/memory.max"])
        .await?;
    ensure!(limit.trim() == (32 << 20).to_string(), "its memory.max is {limit:?}");
    Ok(())
}

async fn service(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let address = kubectl.field(&["-n", NAMESPACE, "service/server"], "{.spec.clusterIP}").await?;
    for server in [address.as_str(), "server", "server.basics.svc.cluster.local"] {
        let target = format!("{server}:80");
        let words = ["exec", "-n", NAMESPACE, "client", "--", "/workload", "get", &target, "/"];
        kubectl.until(&words, "hello from a pod", POD_LIMIT).await?;
    }
    Ok(())
}

async fn second_bootstrap(cluster: &mut Cluster) -> anyhow::Result<()> {
    let before = cluster.kubectl.field(&["namespace/kube-system"], "{.metadata.uid}").await?;
    cluster.ingotctl(&["bootstrap"]).await?.refused(&["bootstrap"])?;
    let after = cluster.kubectl.field(&["namespace/kube-system"], "{.metadata.uid}").await?;
    ensure!(before == after, "it is another cluster: {before} and {after}");
    Ok(())
}

async fn told(cluster: &mut Cluster) -> anyhow::Result<()> {
    let health = cluster.ingotctl(&["health", "--wait", "4m"]).await?.ok()?;
    for part in CONTROL_PLANE.iter().chain(&["node", "addon/coredns", "disk"]) {
        let is_up = |line: &str| line.starts_with(part) && line.contains(" ok ");
        ensure!(health.lines().any(is_up), "{part} is not up: {health}");
    }
    let services = cluster.ingotctl(&["services"]).await?.ok()?;
    ensure!(services.contains("ingotd"), "it lists {services}");
    let upgrade = ["upgrade-kubernetes", "--dry-run"];
    let now = cluster.ingotctl(&upgrade).await?.ok()?;
    ensure!(now.contains("kubelet of"), "it says {now}");
    let far = [&upgrade[..], &["--to", "v1.99.0"]].concat();
    cluster.ingotctl(&far).await?.refused(&["blocks", "in the way of the upgrade"]).map(drop)
}

/// The kubelet says so of every image that it pulls.
async fn nothing_pulled(cluster: &mut Cluster) -> anyhow::Result<()> {
    let words = ["get", "events", "-A", "--field-selector", "reason=Pulling", "-o", "name"];
    let events = cluster.kubectl.ok(&words).await?;
    ensure!(events.trim().is_empty(), "the kubelet pulled: {events}");
    Ok(())
}
