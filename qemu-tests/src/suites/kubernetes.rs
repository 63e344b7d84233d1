//! Suite `kubernetes`: one command makes a node a cluster of upstream Kubernetes, and what people use of Kubernetes works on it. One boot
//! serves all checks: a cluster takes minutes to be there in emulation.
//!
//! The short form is the way from a power-on to a service that answers. The long form tries the rest, group by group, each in a namespace of
//! its own.

mod api;
mod basics;
mod clients;
mod data;
mod etcd;
mod eviction;
mod healing;
mod pods;
mod policy;
mod services;
mod tool;
mod trouble;
mod workers;
mod workloads;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Context, KubernetesKit};
use crate::kubernetes::Cluster;
use crate::kubernetes::cluster::{READY_LIMIT, Shape};
use crate::report::Report;

/// One check that asks for something that takes seconds on an idle machine.
const CHECK_LIMIT: Duration = Duration::from_secs(15 * 60);
/// A pod, from its creation to what is wanted of it.
const POD_LIMIT: Duration = Duration::from_secs(8 * 60);
/// Memory of the node, unless the form says otherwise.
const MEMORY_MIB: u32 = 2048;
/// The bundled image, whose only program is the workload.
const WORKLOAD: &str = crate::documents::WORKLOAD;
/// An image with a shell and a web server, from the tests' registry.
const BUSYBOX: &str = "mirror.test/e2e-test-images/busybox:1.29-2";

/// The groups of the long form, in their order: the last ones leave least as it was.
const GROUPS: &[&str] = &[
    "pods",
    "workloads",
    "services",
    "data",
    "policy",
    "api",
    "clients",
    "healing",
    "etcd",
    "eviction",
    "trouble",
];
/// The group with two nodes, after all others: the first machine is gone by then.
const WORKERS: &str = "workers";
/// Two networks of each kind: with them every node and pod has an address of each version of IP.
const DUAL_STACK: &str = "  network:
    podCidrs: [10.244.0.0/16, 'fd00:244::/56']
    serviceCidrs: [10.96.0.0/12, 'fd00:96::/112']
";

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.kubernetes else { return };
    // It has a cluster of its own, of two machines.
    let workers = kit.images.is_some() && wanted(kit, WORKERS);
    if !workers || kit.focus.is_empty() || kit.focus.len() > 1 {
        Box::pin(one_node(context, kit, report)).await;
    }
    if workers {
        Box::pin(workers::run(kit, report)).await;
    }
}

/// Whether a group is to run.
fn wanted(kit: &KubernetesKit, group: &str) -> bool {
    kit.focus.is_empty() || kit.focus.iter().any(|it| it == group)
}

/// Everything that a single node can show.
async fn one_node(context: &Context, kit: &KubernetesKit, report: &Report) {
    // The short form has the networks that a config has which says nothing of them.
    let networks = if kit.images.is_some() { DUAL_STACK } else { "" };
    let shape = Shape { name: "kubernetes", memory_mib: MEMORY_MIB, kubernetes: networks };
    match Cluster::boot(&kit.artifacts, &kit.kube, kit.images.as_deref(), shape).await {
        Ok(mut cluster) => Box::pin(session(&mut cluster, kit, context.full, report)).await,
        Err(error) => report.check_alone("a node boots", async { Err(error) }).await,
    }
}

/// What is tried of one cluster. Nothing else can be true of a node that is no cluster.
async fn session(cluster: &mut Cluster, kit: &KubernetesKit, full: bool, report: &Report) {
    let where_not = "a worker and a node without the section are refused as a cluster";
    cluster.check(report, where_not, CHECK_LIMIT, trouble::no_control_plane).await;
    let one = async |cluster: &mut Cluster| cluster.bootstrap().await;
    if !cluster.check(report, "one command makes a cluster", READY_LIMIT * 2, one).await {
        return;
    }
    let ready = async |cluster: &mut Cluster| cluster.wait_ready().await;
    if !cluster.check(report, "its node is Ready", READY_LIMIT * 2, ready).await {
        return;
    }
    if kit.images.is_none() {
        Box::pin(basics::run(cluster, report)).await;
        return Box::pin(short(cluster, report)).await;
    }
    if wanted(kit, "basics") {
        Box::pin(basics::run(cluster, report)).await;
    }
    for group in GROUPS.iter().filter(|group| wanted(kit, group)) {
        match *group {
            "pods" => Box::pin(pods::run(cluster, report)).await,
            "workloads" => Box::pin(workloads::run(cluster, report)).await,
            "services" => Box::pin(services::run(cluster, report)).await,
            "data" => Box::pin(data::run(cluster, report)).await,
            "policy" => Box::pin(policy::run(cluster, report)).await,
            "api" => Box::pin(api::run(cluster, report)).await,
            "clients" => Box::pin(clients::run(cluster, kit, report)).await,
            "healing" => Box::pin(healing::run(cluster, report)).await,
            "etcd" => Box::pin(etcd::run(cluster, full, report)).await,
            "eviction" => Box::pin(eviction::run(cluster, report)).await,
            _ => Box::pin(trouble::run(cluster, report)).await,
        }
    }
}

/// Some checks of each group, with nothing but what is in the image.
async fn short(cluster: &mut Cluster, report: &Report) {
    Box::pin(data::short(cluster, report)).await;
    Box::pin(policy::short(cluster, report)).await;
    Box::pin(api::short(cluster, report)).await;
    Box::pin(healing::short(cluster, report)).await;
    Box::pin(etcd::short(cluster, report)).await;
    report.skip(
        "everything else that people use of Kubernetes",
        "takes long; run with --full or by the suite's name",
    );
}

/// Makes a namespace whose pods may do what baseline of Pod Security allows, and the objects of `manifest` in it.
async fn prepare(cluster: &Cluster, namespace: &str, manifest: &str) -> anyhow::Result<()> {
    let created = cluster.kubectl.run(&["create", "namespace", namespace], "").await?;
    ensure!(created.succeeded, "{}", created.said());
    // The controller manager makes it a moment later; pods before that are refused.
    cluster
        .kubectl
        .until(&["get", "-n", namespace, "serviceaccounts"], "default", POD_LIMIT)
        .await?;
    let manifest = manifest.replace("BUSYBOX", BUSYBOX).replace("WORKLOAD", WORKLOAD);
    let ran = cluster.kubectl.run(&["apply", "-n", namespace, "-f", "-"], &manifest).await?;
    ran.ok().map(drop)
}

/// Takes a group's objects away, so that the next group has the node to itself.
async fn clear(cluster: &Cluster, namespace: &str) {
    // Not a promise of its own; the next group fails if it is in its way.
    let words = ["delete", "namespace", namespace, "--wait=false"];
    let _told_later = cluster.kubectl.run(&words, "").await;
}

/// The text at a JSON pointer; an error shows what is there instead.
fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no text at {pointer} of {value}"))
}
