//! What keeps pods at the wanted number and version: deployments without a lost request, stateful sets, daemon sets, jobs.

use anyhow::ensure;

use super::{CHECK_LIMIT, POD_LIMIT, clear, prepare};
use crate::kubernetes::Cluster;
use crate::report::Report;

const NAMESPACE: &str = "workloads";

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    let manifest = include_str!("workloads.yaml");
    let prepared = async |cluster: &mut Cluster| prepare(cluster, NAMESPACE, manifest).await;
    if !cluster.check(report, "workloads are taken", CHECK_LIMIT, prepared).await {
        return;
    }
    let c = cluster;
    c.check(report, "jobs end as often as they should, and give up when told", CHECK_LIMIT, jobs)
        .await;
    c.check(report, "a deployment rolls out and back", CHECK_LIMIT * 2, rolling).await;
    c.check(report, "it is scaled up and down", CHECK_LIMIT, scaled).await;
    c.check(report, "no request was lost meanwhile", CHECK_LIMIT, nothing_lost).await;
    c.check(report, "a stateful set's pods keep their names", CHECK_LIMIT, stateful).await;
    c.check(report, "a daemon set has a pod on each node", CHECK_LIMIT, daemon).await;
    c.check(report, "a cron job starts its jobs", CHECK_LIMIT, cron).await;
    let name = "a deployment that uses much CPU is scaled by itself";
    c.check(report, name, CHECK_LIMIT, autoscaled).await;
    clear(c, NAMESPACE).await;
}

async fn field(cluster: &Cluster, object: &str, path: &str) -> anyhow::Result<String> {
    cluster.kubectl.field(&["-n", NAMESPACE, object], path).await
}

/// Waits until the load hears a version, and nothing else can be heard.
async fn heard(cluster: &Cluster, version: &str) -> anyhow::Result<()> {
    let words = ["logs", "-n", NAMESPACE, "load", "--tail", "1"];
    cluster.kubectl.until(&words, &format!("got {version}"), POD_LIMIT).await.map(drop)
}

async fn rolling(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let web = ["-n", NAMESPACE, "deployment/web"];
    kubectl.rolled_out(&web, POD_LIMIT).await?;
    heard(cluster, "v1").await?;
    kubectl.ok(&["set", "env", "-n", NAMESPACE, "deployment/web", "VERSION=v2"]).await?;
    kubectl.rolled_out(&web, POD_LIMIT).await?;
    heard(cluster, "v2").await?;
    let sets = kubectl.get(&["-n", NAMESPACE, "replicasets", "-l", "app=web"]).await?;
    let sets = sets["items"].as_array().map_or(0, Vec::len);
    ensure!(sets == 2, "two versions have {sets} replica sets");
    kubectl.ok(&["rollout", "undo", "-n", NAMESPACE, "deployment/web"]).await?;
    kubectl.rolled_out(&web, POD_LIMIT).await?;
    heard(cluster, "v1").await
}

async fn scaled(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    for count in ["4", "1"] {
        let replicas = format!("--replicas={count}");
        kubectl.ok(&["scale", "-n", NAMESPACE, "deployment/web", &replicas]).await?;
        let web = ["-n", NAMESPACE, "deployment/web"];
        kubectl.wait_field(&web, "{.status.replicas}", count, POD_LIMIT).await?;
        kubectl.wait_field(&web, "{.status.readyReplicas}", count, POD_LIMIT).await?;
    }
    Ok(())
}

async fn nothing_lost(cluster: &mut Cluster) -> anyhow::Result<()> {
    let log = cluster.kubectl.ok(&["logs", "-n", NAMESPACE, "load"]).await?;
    let got = log.lines().filter(|line| line.starts_with("got v")).count();
    let lost = log.lines().filter(|line| *line == "lost").count();
    ensure!(got > 20 && lost == 0, "{got} requests were answered and {lost} lost");
    let restarts = "{.status.containerStatuses[0].restartCount}";
    let restarts = field(cluster, "pod/load", restarts).await?;
    ensure!(restarts == "0", "the load was started again {restarts} times");
    Ok(())
}

async fn stateful(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    kubectl.rolled_out(&["-n", NAMESPACE, "statefulset/db"], POD_LIMIT).await?;
    let before = field(cluster, "pod/db-1", "{.metadata.uid}").await?;
    kubectl.ok(&["delete", "pod", "-n", NAMESPACE, "db-1"]).await?;
    kubectl.rolled_out(&["-n", NAMESPACE, "statefulset/db"], POD_LIMIT).await?;
    let after = field(cluster, "pod/db-1", "{.metadata.uid}").await?;
    ensure!(before != after, "db-1 is the same pod");
    let address = field(cluster, "pod/db-1", "{.status.podIP}").await?;
    let name = "db-1.db.workloads.svc.cluster.local";
    let words = ["exec", "-n", NAMESPACE, "load", "--", "nslookup", name];
    kubectl.until(&words, &address, POD_LIMIT).await.map(drop)
}

async fn daemon(cluster: &mut Cluster) -> anyhow::Result<()> {
    let set = ["-n", NAMESPACE, "daemonset/everywhere"];
    cluster.kubectl.wait_field(&set, "{.status.numberReady}", "1", POD_LIMIT).await?;
    let wanted = field(cluster, "daemonset/everywhere", "{.status.desiredNumberScheduled}").await?;
    ensure!(wanted == "1", "one node is to have {wanted} pods");
    Ok(())
}

async fn jobs(cluster: &mut Cluster) -> anyhow::Result<()> {
    let kubectl = &cluster.kubectl;
    let thrice = ["-n", NAMESPACE, "job/thrice"];
    kubectl.wait_for("condition=Complete", &thrice, POD_LIMIT).await?;
    let count = field(cluster, "job/thrice", "{.status.succeeded}").await?;
    ensure!(count == "3", "it ended well {count} times");
    kubectl.wait_for("condition=Failed", &["-n", NAMESPACE, "job/hopeless"], POD_LIMIT).await?;
    let count = field(cluster, "job/hopeless", "{.status.failed}").await?;
    ensure!(count == "2", "with one more try it failed {count} times");
    Ok(())
}

async fn cron(cluster: &mut Cluster) -> anyhow::Result<()> {
    let words = ["get", "jobs", "-n", NAMESPACE, "-o", "name"];
    cluster.kubectl.until(&words, "job.batch/minutely-", POD_LIMIT).await?;
    let suspend = r#"{"spec":{"suspend":true}}"#;
    cluster.kubectl.ok(&["patch", "cronjob", "minutely", "-n", NAMESPACE, "-p", suspend]).await?;
    Ok(())
}

async fn autoscaled(cluster: &mut Cluster) -> anyhow::Result<()> {
    let busy = ["-n", NAMESPACE, "deployment/busy"];
    cluster.kubectl.wait_field(&busy, "{.status.readyReplicas}", "2", POD_LIMIT).await
}
