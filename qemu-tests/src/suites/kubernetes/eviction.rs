//! A node that runs out of something ends whoever takes most of it, and says so; the others run on.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{CHECK_LIMIT, POD_LIMIT, WORKLOAD, clear, prepare};
use crate::kubernetes::Cluster;
use crate::kubernetes::cluster::READY_LIMIT;
use crate::report::Report;

const NAMESPACE: &str = "eviction";

/// What is left for pods when a greedy one has what it wants: less than the kubelet wants to have left (100 MiB), more than the kernel does,
/// which else ends the pod before the kubelet has seen it.
const LEFT_MIB: u64 = 64;

/// One who asks for what it uses, one who writes more than it may.
const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: modest}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: WORKLOAD
    imagePullPolicy: Never
    args: [tick, '1000']
    resources: {requests: {memory: 16Mi}, limits: {memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, 'dd if=/dev/zero of=/room/file bs=1M count=24; sleep 100000']
    volumeMounts: [{name: room, mountPath: /room}]
  volumes: [{name: room, emptyDir: {sizeLimit: 8Mi}}]
";

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    let prepared = async |cluster: &mut Cluster| prepare(cluster, NAMESPACE, MANIFEST).await;
    let c = cluster;
    if c.check(report, "a modest pod and a writer are taken", CHECK_LIMIT, prepared).await {
        c.check(report, "a pod that fills its volume is evicted", CHECK_LIMIT, disk).await;
        let name = "memory that runs out costs the pod that took it, and no other";
        c.check(report, name, READY_LIMIT, memory).await;
    }
    clear(c, NAMESPACE).await;
}

/// Waits for a pod to be evicted; returns the kubelet's words.
async fn evicted(cluster: &Cluster, pod: &str) -> anyhow::Result<String> {
    let pod = ["-n", NAMESPACE, "pod", pod];
    cluster.kubectl.wait_field(&pod, "{.status.reason}", "Evicted", READY_LIMIT).await?;
    cluster.kubectl.field(&pod, "{.status.message}").await
}

async fn disk(cluster: &mut Cluster) -> anyhow::Result<()> {
    let why = evicted(cluster, "writer").await?;
    ensure!(why.contains("room") && why.contains("8Mi"), "it was evicted for {why:?}");
    Ok(())
}

/// Memory that pods can still have, by the kubelet's summary: of the node's, and of the part of it that all pods together may use.
fn left_for_pods(summary: &Value) -> Option<u64> {
    let available = |of: &Value| of.pointer("/memory/availableBytes").and_then(Value::as_u64);
    let node = summary.get("node")?;
    let pods = node["systemContainers"].as_array()?.iter().find(|one| one["name"] == "pods")?;
    Some(available(node)?.min(available(pods)?))
}

async fn memory(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let modest = ["-n", NAMESPACE, "pod/modest"];
    kubectl.wait_for("condition=Ready", &modest, POD_LIMIT).await?;
    let before = kubectl.get(&modest).await?["status"]["containerStatuses"].clone();
    let path = format!("/api/v1/nodes/{}/proxy/stats/summary", cluster.node().await?);
    let summary: Value = serde_json::from_str(&kubectl.ok(&["get", "--raw", &path]).await?)?;
    let free = left_for_pods(&summary).with_context(|| format!("no memory in {summary}"))? >> 20;
    let much = free.saturating_sub(LEFT_MIB).to_string();
    let words = ["run", "greedy", "-n", NAMESPACE, "--image", WORKLOAD, "--restart=Never"];
    let more = ["--image-pull-policy=Never", "--", "hog", &much];
    kubectl.ok(&[&words[..], &more].concat()).await?;
    let why = evicted(cluster, "greedy").await?;
    ensure!(why.contains("memory"), "it was evicted for {why:?}");
    let pressure = "{.status.conditions[?(@.type=='MemoryPressure')].status}";
    let node = format!("node/{}", cluster.node().await?);
    // The kubelet holds on to it for five minutes.
    kubectl.wait_field(&[&node], pressure, "True", POD_LIMIT).await?;
    let after = kubectl.get(&modest).await?["status"]["containerStatuses"].clone();
    ensure!(before == after, "the modest pod was {before} and is {after}");
    kubectl.wait_field(&[&node], pressure, "False", READY_LIMIT).await
}
