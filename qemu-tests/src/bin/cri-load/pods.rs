//! Many pods at once.

use std::time::Instant;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use ingot_qemu_tests::cri::{self, v1};
use serde_json::json;

use crate::timing::Laps;
use crate::{IMAGE, Target};

/// Pods that are started at once where that is not what is measured.
const SIDE_BY_SIDE: usize = 4;

/// Starts `count` pods at once and waits until each of them runs; removes them again.
pub(crate) async fn burst(target: Target, count: usize) -> anyhow::Result<serde_json::Value> {
    let begin = Instant::now();
    let pods: Vec<(String, u128)> = stream::iter(0..count)
        .map(|number| {
            let target = target.clone();
            async move {
                let sandbox = start(target, &format!("burst-{number}")).await?;
                anyhow::Ok((sandbox, begin.elapsed().as_micros()))
            }
        })
        .buffer_unordered(count)
        .try_collect()
        .await?;
    let all = begin.elapsed().as_micros();
    let times: Vec<u128> = pods.iter().map(|(_, time)| *time).collect();
    remove(&target, pods.into_iter().map(|(sandbox, _)| sandbox)).await?;
    Ok(json!({"microseconds": {"pod": times, "all": [all]}}))
}

/// One pod with one container that sleeps.
pub(crate) async fn start(mut target: Target, name: &str) -> anyhow::Result<String> {
    let config = cri::sandbox(name);
    let sandbox = target.run_sandbox(&config).await?;
    let main = container("main", &["/workload", "sleep"]);
    let id = target.cri.create(&sandbox, &main, &config).await?;
    target.cri.start(&id).await?;
    Ok(sandbox)
}

/// Removes sandboxes, a few at once.
pub(crate) async fn remove(
    target: &Target,
    sandboxes: impl Iterator<Item = String>,
) -> anyhow::Result<()> {
    stream::iter(sandboxes)
        .map(|sandbox| {
            let mut cri = target.cri.clone();
            async move { cri.remove_sandbox(&sandbox).await }
        })
        .buffer_unordered(8)
        .try_collect()
        .await
}

/// A container with everything on that a kubelet asks for: system calls filtered, paths masked, no new rights, limits.
pub(crate) fn container(name: &str, command: &[&str]) -> v1::ContainerConfig {
    let texts = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let mut config = cri::container(name, IMAGE, command);
    let linux = config.linux.get_or_insert_default();
    linux.resources = Some(v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 100_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 500,
        ..Default::default()
    });
    let security = linux.security_context.get_or_insert_default();
    security.no_new_privs = true;
    security.seccomp = Some(v1::SecurityProfile::default());
    security.masked_paths = texts(MASKED);
    security.readonly_paths = texts(READ_ONLY);
    config
}

/// As the kubelet has them.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// List and status calls with many pods on the node.
pub(crate) async fn lists(
    mut target: Target,
    pods: usize,
    count: usize,
) -> anyhow::Result<serde_json::Value> {
    let sandboxes: Vec<String> = stream::iter(0..pods)
        .map(|number| {
            let target = target.clone();
            async move { start(target, &format!("list-{number}")).await }
        })
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect()
        .await?;
    let containers = target.cri.containers().await?;
    let mut laps = Laps::default();
    for (sandbox, container) in sandboxes.iter().cycle().zip(containers.iter().cycle()).take(count)
    {
        let begin = Instant::now();
        target.cri.sandboxes().await?;
        let sandboxes = Instant::now();
        target.cri.containers().await?;
        let listed = Instant::now();
        target.cri.status(&container.id).await?;
        let container = Instant::now();
        let request =
            v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.clone(), ..Default::default() };
        target.cri.runtime.pod_sandbox_status(request).await?;
        laps.add("ListPodSandbox", sandboxes - begin);
        laps.add("ListContainers", listed - sandboxes);
        laps.add("ContainerStatus", container - listed);
        laps.add("PodSandboxStatus", container.elapsed());
    }
    remove(&target, sandboxes.into_iter()).await?;
    Ok(laps.json())
}
