//! Suite `pods`: pods start, end, share, fail and say why.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ingot_api::machine::v1::container::State;

use super::{SharedNode, apply_pods};
use crate::documents::{Pod, WORKLOAD};
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// A pod reaches a state, in emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs the suite.
pub(super) async fn run(node: &mut SharedNode<'_>, report: &Report) {
    let Some(machine) = node.get(report).await else { return };
    report
        .check("the pods of a config are accepted together", machine, async |machine| {
            let mut api = machine.api()?;
            apply_pods(machine, &mut api, &documents()).await
        })
        .await;
    report.check("an absent image is named, and tried again later", machine, absent_image).await;
    report
        .check("a limit below what can start is named, and tried again later", machine, tiny_limit)
        .await;
    report.check("containers of a pod share an emptyDir", machine, empty_dir).await;
    report.check("a pod has an address of its own on the bridge", machine, pod_address).await;
    report.check("a hostNetwork pod has the node's addresses", machine, host_network).await;
    report
        .check("a pod that ends well is Succeeded and not started again", machine, ends_well)
        .await;
    report
        .check("a pod that fails and may not restart is Failed with its code", machine, fails_once)
        .await;
    report.check("a pod that fails and must restart backs off", machine, backs_off).await;
    report.check("a failing pod's log is readable for every run", machine, logs_of_all_runs).await;
    report
        .check("a pod that leaves the config is removed, the others stay", machine, removal)
        .await;
}

fn documents() -> Vec<String> {
    vec![
        Pod::new("absent", &["sleep"]).image("registry.example/nothing:1").document(),
        Pod::new("tiny", &["sleep"]).memory("64Ki").document(),
        shared_directory(),
        Pod::new("addresses", &["net"]).document(),
        Pod::new("host", &["net"]).host_network().document(),
        Pod::new("done", &["exit", "0"]).restart_policy("OnFailure").document(),
        Pod::new("failed", &["exit", "7"]).restart_policy("Never").document(),
        Pod::new("flapping", &["tick", "10", "3", "9"]).document(),
        Pod::new("steady", &["sleep"]).document(),
    ]
}

/// Two containers and one volume: `writer` writes a file that `reader` waits for and prints.
fn shared_directory() -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: sharing\nspec:\n  restartPolicy: OnFailure\n  volumes:\n  \
         - name: shared\n    emptyDir: {{}}\n  containers:\n  \
         - name: reader\n    image: {WORKLOAD}\n    args: [\"cat\", \"/shared/greeting\"]\n    volumeMounts:\n    \
         - name: shared\n      mountPath: /shared\n  \
         - name: writer\n    image: {WORKLOAD}\n    args: [\"write\", \"/shared/greeting\", \"hello\"]\n    \
         volumeMounts:\n    - name: shared\n      mountPath: /shared\n"
    )
}

async fn absent_image(machine: &mut Machine) -> anyhow::Result<()> {
    says_why_and_waits(machine, "absent", "registry.example/nothing:1").await
}

async fn tiny_limit(machine: &mut Machine) -> anyhow::Result<()> {
    says_why_and_waits(machine, "tiny", "memory").await
}

/// The first container of `pod` waits with a reason, a message that contains `word`, and a time for the next try.
async fn says_why_and_waits(machine: &mut Machine, pod: &str, word: &str) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let container = wait::until(&format!("pod {pod} to say why it waits"), LIMIT, async || {
        let container = api.container(pod).await?;
        let waits = container.state() != State::Running && container.next_start_at.is_some();
        ensure!(waits, "{container:?}");
        Ok(Some(container))
    })
    .await?;
    ensure!(!container.reason.is_empty(), "no reason: {container:?}");
    ensure!(container.message.contains(word), "the message does not name {word}: {container:?}");
    Ok(())
}

async fn empty_dir(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    wait::until("the reader to print what the writer wrote", LIMIT, async || {
        let lines = api.logs_of("sharing", "reader").await?;
        ensure!(lines.iter().any(|line| line == "hello"), "it printed {lines:?}");
        Ok(Some(()))
    })
    .await
}

async fn pod_address(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let address = wait::until("the pod to have an address", LIMIT, async || {
        Ok(api.pod("addresses").await?.and_then(|pod| pod.ips.first().cloned()))
    })
    .await?;
    ensure!(address.starts_with("10.244.0."), "its address is {address}");
    wait::until("the pod to see its own address", LIMIT, async || {
        let lines = api.logs("addresses").await?;
        ensure!(
            lines.iter().any(|line| line.contains(&address)),
            "it printed {lines:?}, not {address}"
        );
        Ok(Some(()))
    })
    .await?;
    let links = api.status().await?.links;
    let bridged =
        links.iter().any(|link| link.addresses.iter().any(|own| own.starts_with("10.244.0.1/")));
    ensure!(bridged, "no bridge has the first address of the subnet: {links:?}");
    Ok(())
}

async fn host_network(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    wait::until("the pod to see the node's address", LIMIT, async || {
        let lines = api.logs("host").await?;
        ensure!(lines.iter().any(|line| line.contains("10.0.2.15")), "it printed {lines:?}");
        Ok(Some(()))
    })
    .await?;
    let pod = api.pod("host").await?.context("no pod host")?;
    ensure!(pod.host_network, "{pod:?}");
    Ok(())
}

async fn ends_well(machine: &mut Machine) -> anyhow::Result<()> {
    let pod = reaches_phase(machine, "done", "Succeeded").await?;
    let container = pod.containers.first().context("no container")?;
    ensure!(container.restarts == 0 && container.exit_code == 0, "{container:?}");
    Ok(())
}

async fn fails_once(machine: &mut Machine) -> anyhow::Result<()> {
    let pod = reaches_phase(machine, "failed", "Failed").await?;
    let container = pod.containers.first().context("no container")?;
    ensure!(container.restarts == 0 && container.exit_code == 7, "{container:?}");
    Ok(())
}

async fn reaches_phase(
    machine: &mut Machine,
    pod: &str,
    phase: &str,
) -> anyhow::Result<ingot_api::machine::v1::Pod> {
    let mut api = machine.api()?;
    wait::until(&format!("pod {pod} to be {phase}"), LIMIT, async || {
        let now = api.pod(pod).await?.context("the pod is not there")?;
        ensure!(now.phase == phase, "{now:?}");
        Ok(Some(now))
    })
    .await
}

async fn backs_off(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let container = wait::until("the failing pod to back off", LIMIT, async || {
        let container = api.container("flapping").await?;
        let backs_off = container.restarts > 0 && container.next_start_at.is_some();
        ensure!(backs_off, "{container:?}");
        Ok(Some(container))
    })
    .await?;
    ensure!(container.reason == "CrashLoopBackOff", "{container:?}");
    ensure!(container.history.iter().all(|run| run.exit_code == 9), "{:?}", container.history);
    Ok(())
}

async fn logs_of_all_runs(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let lines = api.logs("flapping").await?;
    let runs = lines.iter().filter(|line| line.as_str() == "tick 1").count();
    let whole = lines.chunks(3).all(|run| {
        run.first().is_some_and(|line| line == "tick 1") && (run.len() < 3 || run[2] == "tick 3")
    });
    ensure!(runs >= 2 && whole, "its log is {lines:?}");
    Ok(())
}

async fn removal(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let before = api.container("steady").await?;
    apply_pods(machine, &mut api, &[Pod::new("steady", &["sleep"]).document()]).await?;
    wait::until("the other pods to be gone", LIMIT, async || {
        let names: Vec<String> = api.pods().await?.into_iter().map(|pod| pod.name).collect();
        ensure!(names == ["steady"], "there are {names:?}");
        Ok(Some(()))
    })
    .await?;
    let after = api.container("steady").await?;
    ensure!(
        after.id == before.id && after.restarts == before.restarts,
        "steady was restarted: {after:?}"
    );
    apply_pods(machine, &mut api, &[]).await
}
