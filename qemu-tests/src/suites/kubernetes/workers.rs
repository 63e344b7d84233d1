//! A second node: a small machine joins with a token, runs pods, and its pods and those of the first node reach each other.

use anyhow::{Context as _, ensure};

use super::{CHECK_LIMIT, KubernetesKit, MEMORY_MIB, POD_LIMIT, WORKLOAD};
use crate::documents::Pod;
use crate::kubernetes::cluster::{READY_LIMIT, Shape};
use crate::kubernetes::pair::{Pair, WORKER};
use crate::report::Report;
use crate::wait;

/// Memory of the worker, and how many pods it runs: what a small machine is good for.
const SMALL_MIB: u32 = 512;
const PODS: u32 = 10;
/// A pod of the worker's own config.
const OWN: &str = "own";

pub(super) async fn run(kit: &KubernetesKit, report: &Report) {
    let shape = Shape { name: "workers", memory_mib: MEMORY_MIB, kubernetes: "" };
    let mut pair = match Pair::boot(&kit.artifacts, &kit.kube, shape).await {
        Ok(pair) => pair,
        Err(error) => {
            let name = "a control plane for a worker is there";
            return report.check_alone(name, async { Err(error) }).await;
        }
    };
    let name = "a worker of 512 MiB joins with a token and is Ready";
    let joined = pair.join(SMALL_MIB, &[Pod::new(OWN, &["serve", "8081"]).document()]).await;
    let passed = joined.is_ok();
    checked(&mut pair, report, name, async |_| joined).await;
    if !passed {
        return;
    }
    checked(&mut pair, report, "it runs ten pods", fill).await;
    let name = "pods of both nodes reach each other, and both are asked for logs";
    checked(&mut pair, report, name, reach).await;
    let name = "services and names lead from one node to pods of the other";
    checked(&mut pair, report, name, services).await;
    let name = "a worker is refused as a cluster of its own";
    checked(&mut pair, report, name, no_cluster).await;
    let name = "pods of a worker's own config leave the cluster's networks alone";
    checked(&mut pair, report, name, own).await;
    let name = "a worker that reboots gives its pods away, and takes pods again afterwards";
    let left = leave(&mut pair).await;
    checked(&mut pair, report, name, async |_| left).await;
}

/// One check; what both nodes say is kept when it fails.
async fn checked(
    pair: &mut Pair,
    report: &Report,
    name: &str,
    test: impl AsyncFnOnce(&Pair) -> anyhow::Result<()>,
) {
    let begin = std::time::Instant::now();
    let result = tokio::time::timeout(READY_LIMIT, Box::pin(test(pair))).await;
    let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("it took too long")));
    let Err(error) = result else { return report.passed(name, begin) };
    if let Some(worker) = &mut pair.worker
        && let Ok(folder) = worker.keep_evidence(name, &format!("{error:?}")).await
    {
        println!("        evidence of the worker: {}", folder.display());
    }
    // Fails again: it is kept and counted there.
    let again = async |_: &mut crate::kubernetes::Cluster| Err(error);
    pair.cluster.check(report, name, CHECK_LIMIT, again).await;
}

async fn fill(pair: &Pair) -> anyhow::Result<()> {
    pair.fill(PODS, READY_LIMIT).await?;
    let status = pair.worker()?.api()?.status().await?;
    let memory = status.memory.context("the worker says nothing of its memory")?;
    println!("        {} MiB of the worker are available", memory.available_bytes >> 20);
    Ok(())
}

async fn reach(pair: &Pair) -> anyhow::Result<()> {
    let kubectl = &pair.cluster.kubectl;
    let first = "workers";
    for (name, node) in [("here", first), ("there", WORKER)] {
        let overrides = serde_json::json!({"spec": {"nodeName": node}}).to_string();
        let run = ["run", name, "--image", WORKLOAD, "--image-pull-policy=Never", "--overrides"];
        kubectl.ok(&[&run[..], &[&overrides, "--", "serve", "8080"]].concat()).await?;
    }
    for name in ["here", "there"] {
        let pod = format!("pod/{name}");
        kubectl.wait_for("condition=Ready", &[&pod], POD_LIMIT).await?;
    }
    for (from, to) in [("here", "there"), ("there", "here")] {
        let address = kubectl.field(&["pod", to], "{.status.podIP}").await?;
        let target = format!("{address}:8080");
        wait::until(&format!("{from} to reach {to}"), POD_LIMIT, async || {
            let asked = kubectl.exec(&[from], &["/workload", "get", &target, "/"]).await?;
            // Whoever is at the end of a wrong way may answer, too.
            ensure!(asked.contains("hello from a pod"), "it is answered {asked:?}");
            Ok(Some(()))
        })
        .await?;
        kubectl.ok(&["logs", to]).await?;
    }
    Ok(())
}

async fn own(pair: &Pair) -> anyhow::Result<()> {
    let pod = pair.worker()?.api()?.pod(OWN).await?.context("the worker has no pod of its own")?;
    ensure!(pod.phase == "Running", "it is {}: {}", pod.phase, pod.message);
    let inside = |ip: &String| ip.starts_with("10.244.") || ip.starts_with("10.96.");
    ensure!(!pod.ips.is_empty() && !pod.ips.iter().any(inside), "it has {:?}", pod.ips);
    Ok(())
}

/// With the pods of [`reach`].
async fn services(pair: &Pair) -> anyhow::Result<()> {
    let kubectl = &pair.cluster.kubectl;
    for (name, from) in [("here", "there"), ("there", "here")] {
        kubectl.ok(&["expose", "pod", name, "--port=80", "--target-port=8080"]).await?;
        let address = kubectl.field(&["service", name], "{.spec.clusterIP}").await?;
        for server in [address, name.to_owned()] {
            let target = format!("{server}:80");
            let get = ["exec", from, "--", "/workload", "get", &target, "/"];
            kubectl.until(&get, "hello from a pod", POD_LIMIT).await?;
        }
    }
    Ok(())
}

async fn no_cluster(pair: &Pair) -> anyhow::Result<()> {
    pair.worker_ingotctl(&["bootstrap"]).await?.refused(&["worker"])?;
    let health = pair.worker_ingotctl(&["health", "--wait", "4m"]).await?.ok()?;
    ensure!(health.contains("kubelet") && !health.contains("etcd"), "its health is {health}");
    Ok(())
}

/// A Deployment of one pod, on the worker while that takes pods.
const MOVED: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: moved}
spec:
  selector: {matchLabels: {app: moved}}
  template:
    metadata: {labels: {app: moved}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [worker]}]}
      containers: [{name: main, image: 'WORKLOAD', imagePullPolicy: Never, args: [sleep]}]
";

async fn leave(pair: &mut Pair) -> anyhow::Result<()> {
    let kubectl = pair.cluster.kubectl.clone();
    kubectl.apply(&MOVED.replace("WORKLOAD", WORKLOAD)).await?;
    kubectl.rolled_out(&["deployment/moved"], POD_LIMIT).await?;
    let (moved, on) = (["pods", "-l", "app=moved"], "{.items[*].spec.nodeName}");
    kubectl.wait_field(&moved, on, WORKER, POD_LIMIT).await?;
    // Nothing else shall have to go: the pods of `fill` have no other place.
    kubectl.ok(&["delete", "deployment/many", "--cascade=foreground", "--timeout=170s"]).await?;
    let worker = pair.worker.as_mut().context("no worker has joined")?;
    worker.reboot().await?;
    // It is where it was evicted to: nobody takes a pod back.
    kubectl.rolled_out(&["deployment/moved"], POD_LIMIT).await?;
    kubectl.wait_field(&moved, on, "workers", POD_LIMIT).await?;
    let node = format!("node/{WORKER}");
    kubectl.wait_for("condition=Ready", &[&node], READY_LIMIT).await?;
    kubectl.wait_field(&[&node], "{.spec.unschedulable}", "", POD_LIMIT).await?;
    // A pod without an owner stays, and runs again.
    kubectl.wait_for("condition=Ready", &["pod/there"], POD_LIMIT).await
}
