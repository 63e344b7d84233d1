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
    let name = "pods of a worker's own config leave the cluster's networks alone";
    checked(&mut pair, report, name, own).await;
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
            Ok((!asked.trim().is_empty()).then_some(()))
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
