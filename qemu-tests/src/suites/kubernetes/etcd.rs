//! What was acknowledged stays: over a snapshot and its restoration, and over power cuts in the middle of writes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{CHECK_LIMIT, clear, tool};
use crate::kubernetes::Cluster;
use crate::kubernetes::cluster::READY_LIMIT;
use crate::report::Report;

const NAMESPACE: &str = "etcd";
/// Power cuts in a full run, and in one that only names the suite: each costs a boot of the whole cluster.
const CUTS: (usize, usize) = (20, 2);
/// Writes are sent for so long before the power is cut.
const WRITING: Duration = Duration::from_secs(20);

pub(super) async fn run(cluster: &mut Cluster, full: bool, report: &Report) {
    let c = cluster;
    c.check(report, "etcd's members and state can be asked for", CHECK_LIMIT, status).await;
    let name = "a snapshot brings a wiped database back, every object the same";
    c.check(report, name, READY_LIMIT * 2, restore).await;
    let cuts = if full { CUTS.0 } else { CUTS.1 };
    let name = format!("every acknowledged write survives {cuts} power cuts");
    let limit = READY_LIMIT * u32::try_from(cuts + 1).unwrap_or(u32::MAX);
    let cut = async |cluster: &mut Cluster| power_cuts(cluster, cuts).await;
    c.check(report, &name, limit, cut).await;
}

/// What stops nothing.
pub(super) async fn short(c: &mut Cluster, report: &Report) {
    c.check(report, "etcd's members and state can be asked for", CHECK_LIMIT, status).await;
    let kept = async |cluster: &mut Cluster| snapshot(cluster).await.map(drop);
    c.check(report, "a snapshot can be taken, and a cut one is refused", CHECK_LIMIT, kept).await;
}

async fn status(cluster: &mut Cluster) -> anyhow::Result<()> {
    for words in [&["etcd", "members"][..], &["etcd", "status"], &["etcd", "defrag"]] {
        let said = cluster.ingotctl(words).await?.ok()?;
        ensure!(!said.trim().is_empty(), "`ingotctl {}` says nothing", words.join(" "));
    }
    Ok(())
}

/// Takes a snapshot; one that is cut must not be taken back.
async fn snapshot(cluster: &Cluster) -> anyhow::Result<String> {
    let snapshot = cluster.machine.directory().join("etcd.snapshot");
    let path = snapshot.to_string_lossy().into_owned();
    cluster.ingotctl(&["etcd", "snapshot", &path]).await?.ok()?;
    let bytes = fs_err::read(&snapshot)?;
    ensure!(bytes.len() > 100_000, "the snapshot is hardly there");
    let cut = cluster.machine.directory().join("cut.snapshot");
    fs_err::write(&cut, &bytes[..bytes.len() - 4096])?;
    let cut = cut.to_string_lossy().into_owned();
    cluster.ingotctl(&["etcd", "restore", &cut, "--yes"]).await?.refused(&["cut or changed"])?;
    Ok(path)
}

/// Kinds whose objects nobody makes anew by themselves.
const KINDS: &str = "configmaps,secrets,services,serviceaccounts,deployments,daemonsets,clusterroles,clusterrolebindings,storageclasses,nodes";

/// What the cluster itself is made of, each with its identity.
async fn objects(cluster: &Cluster) -> anyhow::Result<BTreeSet<String>> {
    let each = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{'\\n'}{end}";
    let text = cluster.kubectl.ok(&["get", KINDS, "-n", "kube-system", "-o", each]).await?;
    let all: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    ensure!(all.len() > 50, "the cluster is made of {all:?}");
    Ok(all)
}

/// Takes etcd its files and its life. The very connection that asks for it may break by it.
async fn wipe(cluster: &Cluster) -> anyhow::Result<()> {
    let script = "rm -rf /cluster/etcd/data-* && kill -9 $(pgrep etcd)";
    let wiping = tool::run(cluster, NAMESPACE, script, "");
    let _broken = tokio::time::timeout(CHECK_LIMIT / 10, wiping).await;
    let files = cluster.machine.api()?.files("/var/lib/ingot/kubernetes/etcd").await?;
    let left = files.iter().find(|file| file.path.contains("before-the-wipe"));
    ensure!(left.is_none(), "the database was not wiped: {left:?}");
    Ok(())
}

async fn restore(cluster: &mut Cluster) -> anyhow::Result<()> {
    tool::make(cluster, NAMESPACE).await?;
    let kubectl = &cluster.kubectl;
    let old = ["create", "configmap", "before-snapshot", "-n", "default"];
    kubectl.ok(&old).await?;
    let before = objects(cluster).await?;
    let path = snapshot(cluster).await?;
    kubectl.ok(&["delete", "configmap", "before-snapshot", "-n", "default"]).await?;
    kubectl.ok(&["create", "configmap", "after-snapshot", "-n", "default"]).await?;
    // One file more, to tell the wiped folder from the one that etcd makes again at once.
    let mark = "for data in /cluster/etcd/data-*; do touch $data/before-the-wipe; done";
    tool::run(cluster, NAMESPACE, mark, "").await?.ok()?;
    wipe(cluster).await?;
    cluster.ingotctl(&["etcd", "restore", &path, "--yes"]).await?.ok()?;
    // The API server of before the restoration may still answer for a moment.
    let found = ["get", "configmaps", "-n", "default", "-o", "name"];
    kubectl.until(&found, "configmap/before-snapshot", READY_LIMIT).await?;
    let all = kubectl.ok(&found).await?;
    ensure!(!all.contains("after-snapshot"), "what came after the snapshot is there: {all}");
    let after = objects(cluster).await?;
    let gone: Vec<&String> = before.difference(&after).collect();
    ensure!(gone.is_empty(), "gone, or others by the same name: {gone:?}");
    cluster.wait_ready().await?;
    let coredns = ["-n", "kube-system", "deployment/coredns"];
    cluster.kubectl.rolled_out(&coredns, READY_LIMIT).await?;
    clear(cluster, NAMESPACE).await;
    Ok(())
}

async fn power_cuts(cluster: &mut Cluster, cuts: usize) -> anyhow::Result<()> {
    cluster.kubectl.ok(&["create", "namespace", "written"]).await?;
    let mut acknowledged = Vec::new();
    for cut in 0..cuts {
        // Ends by its time; the write that is under way then is acknowledged to nobody.
        let writing = write_on(cluster, cut, &mut acknowledged);
        let _cut_short = tokio::time::timeout(WRITING, writing).await;
        cluster.machine.cut_power()?;
        cluster.machine.power_on().await?;
        cluster.wait_api_server().await.with_context(|| format!("after cut {}", cut + 1))?;
        let words = ["get", "configmaps", "-n", "written", "-o", "name"];
        let found = cluster.kubectl.ok(&words).await?;
        let found: Vec<&str> = found.lines().collect();
        for name in &acknowledged {
            let object = format!("configmap/{name}");
            ensure!(found.contains(&object.as_str()), "{name} is gone after cut {}", cut + 1);
        }
    }
    ensure!(acknowledged.len() >= cuts, "only {} writes were tried", acknowledged.len());
    cluster.wait_ready().await
}

/// Writes objects one after the other, and remembers those that were acknowledged.
async fn write_on(
    cluster: &Cluster,
    cut: usize,
    acknowledged: &mut Vec<String>,
) -> anyhow::Result<()> {
    for number in 0..u64::MAX {
        let name = format!("w{cut}-{number}");
        cluster.kubectl.ok(&["create", "configmap", &name, "-n", "written"]).await?;
        acknowledged.push(name);
    }
    Ok(())
}
