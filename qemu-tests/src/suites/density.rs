//! Suite `density`: many pods on one small node; what they cost the agent, and that nothing of them is left.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::Context;
use crate::client::Api;
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::cri_node;
use crate::leaks::{self, Held};
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// Pods in a short run and in a full one.
const PODS: (usize, usize) = (60, 250);
/// Memory of the node.
const MEMORY_MIB: u32 = 2048;
/// Pods that are started at the same time.
const AT_ONCE: usize = 8;
/// The promise: what the agent's memory grows by for one pod.
const GROWTH_KIB: u64 = 60;
/// Program of every pod: it sleeps.
pub(crate) const IMAGE: &str = "mirror.test/ingot/test-workload:latest";
/// Removed pods are gone from every list.
const GONE_LIMIT: Duration = Duration::from_secs(120);

/// A pod of one container.
#[derive(Debug, Clone)]
struct Pod {
    sandbox: String,
    container: String,
}

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    let count = context.many(PODS);
    let (mut machine, _registry) =
        match cri_node::boot(&context.artifacts, &kit.images, "density", MEMORY_MIB).await {
            Ok(booted) => booted,
            Err(error) => {
                return report.check_alone("a node with a CRI boots", async { Err(error) }).await;
            }
        };
    let mut before = None;
    report
        .check("the first pod comes and goes", &mut machine, async |machine| {
            before = Some(warm_up(machine).await?);
            Ok(())
        })
        .await;
    let Some((held, memory_kib)) = before else { return };
    let mut pods = Vec::new();
    report
        .check(&format!("{count} pods start in {MEMORY_MIB} MiB"), &mut machine, async |machine| {
            pods = start(machine, count).await?;
            Ok(())
        })
        .await;
    report
        .check(
            "every one is listed, runs, and has an address of its own",
            &mut machine,
            async |m| listed(m, &pods, count).await,
        )
        .await;
    let name = format!("the agent's memory grows by at most {GROWTH_KIB} KiB a pod");
    report
        .check(&name, &mut machine, async |machine| {
            growth(machine, memory_kib, pods.len(), report).await
        })
        .await;
    report
        .check("nothing is left when they are removed", &mut machine, async |machine| {
            removed(machine, &pods, &held).await
        })
        .await;
}

async fn apis(machine: &Machine) -> anyhow::Result<(Cri, Api)> {
    Ok((Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?, machine.api()?))
}

/// Pulls the image, runs one pod and removes it, so that what is made once is not taken for a leak.
async fn warm_up(machine: &mut Machine) -> anyhow::Result<(Held, u64)> {
    let (mut cri, mut api) = apis(machine).await?;
    cri.pull(IMAGE).await?;
    let pod = start_one(cri.clone(), "warm-up".to_owned()).await?;
    cri.remove_sandbox(&pod.sandbox).await?;
    let agent = leaks::agent(&mut api).await?;
    let held = Held::count(&mut api).await?;
    Ok((held, leaks::memory_kib(&mut api, agent).await?))
}

async fn start_one(mut cri: Cri, name: String) -> anyhow::Result<Pod> {
    let config = cri::sandbox(&name);
    let sandbox = cri.run_sandbox(&config).await.with_context(|| format!("pod {name}"))?;
    let main = cri::container("main", IMAGE, &["/workload", "sleep"]);
    let container = cri.create(&sandbox, &main, &config).await?;
    cri.start(&container).await?;
    Ok(Pod { sandbox, container })
}

async fn start(machine: &mut Machine, count: usize) -> anyhow::Result<Vec<Pod>> {
    let (cri, _) = apis(machine).await?;
    stream::iter(0..count)
        .map(|number| start_one(cri.clone(), format!("pod-{number}")))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn listed(machine: &mut Machine, pods: &[Pod], count: usize) -> anyhow::Result<()> {
    ensure!(pods.len() == count, "{} of {count} pods were started", pods.len());
    let (mut cri, _) = apis(machine).await?;
    let running = v1::ContainerState::ContainerRunning;
    let containers = cri.containers().await?;
    let runs =
        |pod: &Pod| containers.iter().any(|one| one.id == pod.container && one.state() == running);
    let dead = pods.iter().filter(|pod| !runs(pod)).count();
    ensure!(dead == 0, "{dead} containers are not listed as running");
    ensure!(containers.len() == count, "{} containers are listed", containers.len());
    let mut addresses = std::collections::BTreeSet::new();
    for pod in pods {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: pod.sandbox.clone(),
            ..Default::default()
        };
        let status = cri.runtime.pod_sandbox_status(request).await?.into_inner().status;
        let network = status.and_then(|status| status.network).context("no network")?;
        addresses.insert(network.ip);
    }
    ensure!(addresses.len() == count, "{count} pods have {} addresses", addresses.len());
    Ok(())
}

async fn growth(
    machine: &mut Machine,
    before_kib: u64,
    pods: usize,
    report: &Report,
) -> anyhow::Result<()> {
    let (_, mut api) = apis(machine).await?;
    let agent = leaks::agent(&mut api).await?;
    let now_kib = leaks::memory_kib(&mut api, agent).await?;
    let pods = u64::try_from(pods)?.max(1);
    let growth = now_kib.saturating_sub(before_kib) / pods;
    report.note(&format!(
        "agent: {before_kib} KiB, with {pods} pods {now_kib} KiB: {growth} KiB a pod"
    ));
    ensure!(growth <= GROWTH_KIB, "it grew from {before_kib} to {now_kib} KiB for {pods} pods");
    Ok(())
}

async fn removed(machine: &mut Machine, pods: &[Pod], held: &Held) -> anyhow::Result<()> {
    let (cri, mut api) = apis(machine).await?;
    stream::iter(pods)
        .map(|pod| {
            let mut cri = cri.clone();
            async move { cri.remove_sandbox(&pod.sandbox).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let mut cri = cri;
    let left = cri.sandboxes().await?.len();
    ensure!(left == 0, "{left} sandboxes are still listed");
    // Folders may go a little later than the answer.
    wait::until("everything of the pods to be gone", GONE_LIMIT, async || {
        held.compare(&Held::count(&mut api).await?)?;
        Ok(Some(()))
    })
    .await
}
