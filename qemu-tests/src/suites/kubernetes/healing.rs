//! Whatever of the cluster is killed comes back by itself, and a pod that serves meanwhile does not notice.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::super::agent_crash::agent_pid;
use super::{CHECK_LIMIT, POD_LIMIT, clear, tool};
use crate::kubernetes::Cluster;
use crate::kubernetes::cluster::{CONTROL_PLANE, READY_LIMIT};
use crate::report::Report;
use crate::wait;

const NAMESPACE: &str = "healing";

/// A load that counts, a server for it, and somebody to kill.
const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: WORKLOAD, imagePullPolicy: Never, args: [echo, '8080']}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: load}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: WORKLOAD, imagePullPolicy: Never, args: [converse, 'server:80', '500']}
---
apiVersion: v1
kind: Pod
metadata: {name: victim}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: BUSYBOX, command: [sleep, '123456']}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  terminationGracePeriodSeconds: 10
  containers:
  - name: main
    image: WORKLOAD
    imagePullPolicy: Never
    args: [journal, /kept/journal, keeper]
    volumeMounts: [{name: kept, mountPath: /kept}]
  volumes: [{name: kept, emptyDir: {}}]
";

pub(super) async fn run(cluster: &mut Cluster, report: &Report) {
    let c = cluster;
    if !c.check(report, "a load and a tool to kill with run", CHECK_LIMIT, prepared).await {
        return clear(c, NAMESPACE).await;
    }
    let name = "a killed container is started again and the load unbroken";
    c.check(report, name, CHECK_LIMIT, container).await;
    for component in CONTROL_PLANE {
        let name = format!("after {component} is killed all is whole and the load unbroken");
        let killed = async |cluster: &mut Cluster| kill(cluster, component).await;
        c.check(report, &name, READY_LIMIT, killed).await;
    }
    let name = "after the agent is killed all is whole and the load unbroken";
    c.check(report, name, READY_LIMIT, agent).await;
    let name = "after a reboot the cluster and its pods are back, each asked to end before";
    c.check(report, name, READY_LIMIT * 2, reboot).await;
    clear(c, NAMESPACE).await;
}

/// With the pods of the group `basics`.
pub(super) async fn short(c: &mut Cluster, report: &Report) {
    let name = "after the agent is killed all is whole and its pods are the same";
    c.check(report, name, READY_LIMIT, agent_alone).await;
}

async fn agent_alone(cluster: &mut Cluster) -> anyhow::Result<()> {
    let pods = ["-n", "basics", "pods"];
    let path = "{.items[*].status.containerStatuses[0].containerID}";
    let before = cluster.kubectl.field(&pods, path).await?;
    ensure!(before.split_whitespace().count() == 2, "two pods were left: {before}");
    kill_agent(cluster).await?;
    cluster.wait_api_server().await?;
    cluster.wait_ready().await?;
    new_pod(cluster, "basics").await?;
    let after = cluster.kubectl.field(&pods, path).await?;
    ensure!(before == after, "the containers were {before} and are {after}");
    Ok(())
}

async fn prepared(cluster: &mut Cluster) -> anyhow::Result<()> {
    tool::make(cluster, NAMESPACE).await?;
    let manifest = MANIFEST.replace("BUSYBOX", super::BUSYBOX).replace("WORKLOAD", super::WORKLOAD);
    cluster.kubectl.run(&["apply", "-n", NAMESPACE, "-f", "-"], &manifest).await?.ok()?;
    let all = ["-n", NAMESPACE, "pod", "--all"];
    cluster.kubectl.wait_for("condition=Ready", &all, POD_LIMIT).await?;
    answers(cluster, 1).await.map(drop)
}

/// Waits until the load has heard an answer with at least this number, over its one connection; returns the last.
async fn answers(cluster: &Cluster, least: u64) -> anyhow::Result<u64> {
    let words = ["logs", "-n", NAMESPACE, "load", "--tail", "1"];
    wait::until(&format!("answer {least}"), READY_LIMIT, async || {
        let text = cluster.kubectl.ok(&words).await?;
        let number =
            text.trim().strip_prefix("answer ").context("no answer yet")?.parse::<u64>()?;
        Ok((number >= least).then_some(number))
    })
    .await
}

/// Ids of the containers of the load: other ones if anything of it was started again.
async fn ids(cluster: &Cluster) -> anyhow::Result<String> {
    let path = "{.items[*].status.containerStatuses[0].containerID}";
    let pods = ["-n", NAMESPACE, "pod/server", "pod/load"];
    cluster.kubectl.field(&pods, path).await
}

/// The cluster takes a new pod, all of its own run, and the load went on in the same containers.
async fn whole(cluster: &Cluster, before: &str, heard: u64) -> anyhow::Result<()> {
    cluster.wait_api_server().await?;
    cluster.wait_ready().await?;
    for name in ["daemonset/kube-proxy", "deployment/coredns"] {
        cluster.kubectl.rolled_out(&["-n", "kube-system", name], POD_LIMIT).await?;
    }
    new_pod(cluster, NAMESPACE).await?;
    answers(cluster, heard + 5).await?;
    let after = ids(cluster).await?;
    ensure!(before == after, "the load's containers were {before} and are {after}");
    Ok(())
}

/// A pod runs, and goes.
async fn new_pod(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let new =
        ["run", "new", "-n", namespace, "--image", super::WORKLOAD, "--image-pull-policy=Never"];
    cluster.kubectl.ok(&[&new[..], &["--", "tick", "1000"]].concat()).await?;
    let pod = ["-n", namespace, "pod/new"];
    cluster.kubectl.wait_for("condition=Ready", &pod, POD_LIMIT).await?;
    cluster.kubectl.ok(&["delete", "pod", "new", "-n", namespace, "--grace-period=1"]).await?;
    Ok(())
}

/// SIGKILL to the processes of the node with this name. The very connection that asks for it may break by it.
async fn kill_processes(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    // The kernel keeps 15 characters of a name.
    let short: String = name.chars().take(15).collect();
    let script = format!("kill -9 $(pgrep {short})");
    let killing = tool::run(cluster, NAMESPACE, &script, "");
    let _broken = tokio::time::timeout(Duration::from_secs(60), killing).await;
    Ok(())
}

async fn container(cluster: &mut Cluster) -> anyhow::Result<()> {
    let (before, heard) = (ids(cluster).await?, answers(cluster, 1).await?);
    let script = "for d in /proc/[0-9]*; do tr '\\0' ' ' <$d/cmdline 2>/dev/null | grep -q '^sleep 123456' && kill -9 ${d#/proc/}; done; true";
    tool::run(cluster, NAMESPACE, script, "").await?.ok()?;
    let victim = ["-n", NAMESPACE, "pod/victim"];
    let restarts = "{.status.containerStatuses[0].restartCount}";
    cluster.kubectl.wait_field(&victim, restarts, "1", POD_LIMIT).await?;
    cluster.kubectl.wait_for("condition=Ready", &victim, POD_LIMIT).await?;
    whole(cluster, &before, heard).await
}

async fn kill(cluster: &mut Cluster, component: &str) -> anyhow::Result<()> {
    let (before, heard) = (ids(cluster).await?, answers(cluster, 1).await?);
    let restarts = cluster.restarts(component).await?;
    kill_processes(cluster, component).await?;
    wait::until(&format!("another {component}"), READY_LIMIT, async || {
        Ok((cluster.restarts(component).await? > restarts).then_some(()))
    })
    .await?;
    whole(cluster, &before, heard).await
}

async fn agent(cluster: &mut Cluster) -> anyhow::Result<()> {
    let (before, heard) = (ids(cluster).await?, answers(cluster, 1).await?);
    kill_agent(cluster).await?;
    whole(cluster, &before, heard).await
}

/// SIGKILL to the agent; returns when another one has made everything true.
pub(super) async fn kill_agent(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut api = cluster.machine.api()?;
    let killed = agent_pid(&mut api).await?;
    cluster.machine.crash_agent().await?;
    wait::until("another agent", READY_LIMIT, async || {
        let mut api = cluster.machine.api()?;
        Ok((agent_pid(&mut api).await? != killed).then_some(()))
    })
    .await?;
    cluster.machine.wait_running().await.map(drop)
}

async fn reboot(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.machine.reboot().await?;
    cluster.wait_api_server().await?;
    cluster.wait_ready().await?;
    let restarted = async |pod: &str| {
        let path = "{.status.containerStatuses[0].restartCount}";
        let text = cluster.kubectl.field(&["-n", NAMESPACE, "pod", pod], path).await?;
        text.parse::<u32>().context("read a number of restarts")
    };
    wait::until("the pods to be started again", READY_LIMIT, async || {
        let (server, victim) = (restarted("server").await?, restarted("victim").await?);
        // The victim was killed once before.
        ensure!(server >= 1 && victim >= 2, "{server} and {victim} restarts");
        Ok(Some(()))
    })
    .await?;
    let all = ["-n", NAMESPACE, "pod/server", "pod/victim", "pod/keeper"];
    cluster.kubectl.wait_for("condition=Ready", &all, POD_LIMIT).await?;
    // It prints what its file held when it began.
    let log = ["logs", "-n", NAMESPACE, "keeper"];
    cluster.kubectl.until(&log, "keeper ends", POD_LIMIT).await.map(drop)
}
