//! What a cluster of one node costs: memory of the whole idle node, writes to its disk, the smallest machine in which it becomes Ready and
//! runs a pod, and the size of its image. Counts and bytes: how long emulation takes on a busy machine says little, so times are parts of a
//! whole, or stand beside those of a bare control plane in the same machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ingot_qemu_tests::artifacts::Artifacts;
use ingot_qemu_tests::client::Api;
use ingot_qemu_tests::documents::WORKLOAD;
use ingot_qemu_tests::kubernetes::bare::Bare;
use ingot_qemu_tests::kubernetes::cluster::READY_LIMIT;
use ingot_qemu_tests::kubernetes::pair::Pair;
use ingot_qemu_tests::kubernetes::{Cluster, Shape};

use super::Bench;
use super::table::Table;
use crate::{image, kubernetes};

/// The image that ships, with the one bundled image of the tests for a user's pod.
const PROFILE: &str = "demo";
/// The image whose size is promised.
const SHIPPED: &str = "vm";
/// The image with the programs, in every image that has Kubernetes.
const REPOSITORY: &str = "ingot.local/kube";
/// Memory of the machine whose use is measured: enough that nothing is squeezed.
const AMPLE_MIB: u32 = 2048;
/// Memory of the worker, and how many pods it runs: what is promised of a small machine.
const WORKER_MIB: u32 = 512;
const WORKER_PODS: u32 = 10;
/// Machines that are tried until one is too small, in MiB.
const SMALLER_MIB: [u32; 4] = [1024, 896, 768, 640];
/// A machine is too small when it takes so many times as long as one with ample memory: it only reads its programs again and again.
const PATIENCE: u32 = 4;
/// From the last pod being ready until an idle cluster is looked at, by the guest's clock: kubelet, the caches and Go's collectors settle.
const SETTLE: Duration = Duration::from_secs(120);
/// Time over which the writes of an idle cluster are counted, by the guest's clock: nothing that it does comes more seldom than etcd's
/// compaction.
const IDLE: Duration = Duration::from_secs(300);
/// Whole groups whose memory is listed.
const GROUPS: &str = "/";
/// Fields of `/sys/block/*/stat`: sectors written, in units of 512 bytes.
const SECTORS_WRITTEN: usize = 6;

/// Measures a cluster of one node. Each table is shown once it is there: the last one takes long.
pub(super) fn measure(bench: &Bench, show: impl Fn(&Table)) -> anyhow::Result<Vec<Table>> {
    let built = kubernetes::ensure()?;
    let quick = bench.quick;
    if !bench.no_build {
        image::build_with(PROFILE, quick, Some(built.clone()))?;
    }
    // Programs that are compiled for trying a change are larger than those that ship.
    let mut tables = if quick { Vec::new() } else { vec![sizes(&built)?] };
    tables.iter().for_each(&show);
    let kube = built.program.clone();
    // One thread: the kernel ends each QEMU with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let programs = format!("{REPOSITORY}:{}", built.about.version);
    let artifacts = image::artifacts_with(&bench.tools, PROFILE, quick, Some(built))?;
    runtime.block_on(async {
        let begin = Instant::now();
        let started = cluster(&artifacts, &kube, AMPLE_MIB, READY_LIMIT).await?;
        let patience = begin.elapsed() * PATIENCE;
        let mut add = |table: Table| {
            show(&table);
            tables.push(table);
        };
        let ours = started.stages.clone();
        add(started.shares());
        // Each machine is gone before the next one is there.
        add(idle(started.cluster).await?);
        add(worker(&artifacts, &kube).await?);
        add(beside(&ours, &bare(&artifacts, &kube, &programs).await?));
        add(smallest(&artifacts, &kube, patience).await?);
        Ok(tables)
    })
}

/// The image whose size is promised.
fn sizes(built: &kubernetes::Built) -> anyhow::Result<Table> {
    let shipped = image::build_with(SHIPPED, false, Some(built.clone()))?;
    let mut sizes = Table::new("Size of the vm image with Kubernetes");
    for (name, output) in &shipped.manifest.outputs {
        sizes.add(name, &[mib(output.size)], "MiB");
        if name == "disk.qcow2" {
            sizes.at_most(110.0, "compressed image");
        }
    }
    Ok(sizes)
}

/// Stages that a bare control plane has as well.
const ANSWERS: &str = "the node's API answers";
const SERVES: &str = "etcd and the API server are ready";

/// What was reached, and when.
type Stage = (&'static str, f64);

/// A cluster that runs a user's pod, and when it was how far, in seconds since the guest's boot.
struct Started {
    cluster: Cluster,
    stages: Vec<Stage>,
}

/// Boots a machine with so much memory and waits for a cluster that runs a user's pod.
async fn cluster(
    artifacts: &Artifacts,
    kube: &Path,
    memory_mib: u32,
    limit: Duration,
) -> anyhow::Result<Started> {
    let shape = Shape { name: "bench-kubernetes", memory_mib, kubernetes: "" };
    let cluster = Cluster::boot(artifacts, kube, None, shape).await?;
    let mut started = Started { cluster, stages: Vec::new() };
    match tokio::time::timeout(limit, started.start()).await {
        Ok(Ok(())) => Ok(started),
        Ok(Err(error)) => Err(error),
        Err(_) => bail!("no pod ran in {} s", limit.as_secs()),
    }
}

impl Started {
    async fn start(&mut self) -> anyhow::Result<()> {
        self.cluster.machine.wait_api().await?;
        self.stage(ANSWERS).await?;
        self.cluster.bootstrap().await?;
        self.stage(SERVES).await?;
        self.cluster.wait_ready().await?;
        self.stage("the node is Ready").await?;
        let kubectl = &self.cluster.kubectl;
        for name in ["daemonset/kube-proxy", "deployment/coredns"] {
            let words = ["get", "-n", "kube-system", name, "-o", "name"];
            kubectl.until(&words, "/", READY_LIMIT).await?;
            kubectl.rolled_out(&["-n", "kube-system", name], READY_LIMIT).await?;
        }
        self.stage("the add-ons run").await?;
        let kubectl = &self.cluster.kubectl;
        let accounts = ["get", "serviceaccounts", "-n", "default"];
        kubectl.until(&accounts, "default", READY_LIMIT).await?;
        let run = ["run", "user", "--image", WORKLOAD, "--image-pull-policy=Never", "--", "sleep"];
        kubectl.ok(&run).await?;
        kubectl.wait_for("condition=Ready", &["pod/user"], READY_LIMIT).await?;
        self.stage("a user's pod runs").await
    }

    async fn stage(&mut self, name: &'static str) -> anyhow::Result<()> {
        let now = uptime(&mut self.cluster.machine.api()?).await?;
        self.stages.push((name, now));
        Ok(())
    }

    /// What part of the whole each stage took: seconds of an emulated machine mean little.
    fn shares(&self) -> Table {
        let mut table = Table::new("From power-on to a user's pod");
        let whole = self.stages.last().map_or(f64::NAN, |(_, at)| *at);
        let mut before = 0.0;
        for (name, at) in &self.stages {
            table.add(&format!("until {name}"), &[(at - before) / whole * 100.0], "%");
            before = *at;
        }
        table.add("the whole, in this emulation", &[whole], "s");
        table
    }
}

/// The same etcd and API server started as by hand on a node without a cluster.
async fn bare(artifacts: &Artifacts, kube: &Path, image: &str) -> anyhow::Result<Vec<Stage>> {
    let shape = Shape { name: "bench-kubernetes-bare", memory_mib: AMPLE_MIB, kubernetes: "" };
    let cluster = Cluster::boot(artifacts, kube, None, shape).await?;
    let (config, programs) = (cluster.config.clone(), Bare::new(image)?);
    let mut started = Started { cluster, stages: Vec::new() };
    started.cluster.machine.wait_api().await?;
    started.stage(ANSWERS).await?;
    programs.start(&started.cluster, &config).await?;
    started.stage(SERVES).await?;
    Ok(started.stages)
}

/// How long ours takes, and in parts of what the bare one does.
fn beside(ours: &[Stage], bare: &[Stage]) -> Table {
    let at = |stages: &[Stage], stage: &str| {
        stages.iter().find(|(name, _)| *name == stage).map_or(f64::NAN, |(_, at)| *at)
    };
    let title = "Time until the API server is ready, beside one that is started by hand";
    let mut table = Table::new(title);
    for (what, from, to) in [
        ("power-on to the node's API", None, ANSWERS),
        ("from there to an API server that is ready", Some(ANSWERS), SERVES),
        ("power-on to an API server that is ready", None, SERVES),
    ] {
        let took = |of: &[Stage]| at(of, to) - from.map_or(0.0, |from| at(of, from));
        table.add(&format!("{what}: ours"), &[took(ours)], "s");
        table.add(&format!("{what}: bare"), &[took(bare)], "s");
        table.add(&format!("{what}: ratio"), &[took(ours) / took(bare)], "x");
    }
    table.notes.push(
        "bare: the same etcd and API server in the same kind of machine, as pods of a node without a cluster, with the flags that they cannot \
         do without: no kubelet beside them, no encryption, no audit, no TLS to etcd, no probes, certificates made beforehand"
            .to_owned(),
    );
    table.notes.push(
        "two boots by the guest's clock in emulation: other work on the host shows in both"
            .to_owned(),
    );
    table
}

/// Memory and writes of a cluster with nothing to do.
async fn idle(cluster: Cluster) -> anyhow::Result<Table> {
    let mut api = cluster.machine.api()?;
    pass(&mut api, SETTLE).await?;
    let mut table = Table::new(
        "An idle cluster of one node, with its add-ons and one user's pod, in a machine of 2 GiB",
    );
    memory(&mut api, &mut table).await?;
    let (sectors, before) = (written(&mut api).await?, writers(&mut api).await?);
    let begin = uptime(&mut api).await?;
    pass(&mut api, IDLE).await?;
    let (more, after) = (written(&mut api).await?, writers(&mut api).await?);
    let hours = (uptime(&mut api).await? - begin) / 3600.0;
    let bytes = more.saturating_sub(sectors) * 512;
    table.add("written to the disk", &[mib(bytes) / hours], "MiB/h");
    let mut rest = bytes;
    for (group, now) in &after {
        let wrote = now.saturating_sub(before.get(group).copied().unwrap_or_default());
        rest = rest.saturating_sub(wrote);
        if wrote > 0 {
            table.add(&format!("  of it by {group}"), &[mib(wrote) / hours], "MiB/h");
        }
    }
    table.add("  of it by the kernel: journal, inodes, folders", &[mib(rest) / hours], "MiB/h");
    let words = ["get", "events", "-A", "--field-selector", "reason=Pulling", "-o", "name"];
    let pulled = cluster.kubectl.ok(&words).await?.lines().count();
    table.add("images pulled until then", &[number(pulled)], "");
    table.at_most(0.0, "nothing is pulled");
    Ok(table)
}

/// Memory of the whole node, and of its parts.
async fn memory(api: &mut Api, table: &mut Table) -> anyhow::Result<()> {
    let memory = api.status().await?.memory.context("the node says nothing of its memory")?;
    let used = memory.total_bytes.saturating_sub(memory.available_bytes);
    table.add("memory used by the whole node", &[mib(used)], "MiB");
    table.add("memory left", &[mib(memory.available_bytes)], "MiB");
    for group in api.cgroups(GROUPS).await? {
        if is_listed(&group.path) && group.memory_current_bytes >> 20 > 0 {
            let what = format!("  charged to {}", group.path);
            table.add(&what, &[mib(group.memory_current_bytes)], "MiB");
        }
    }
    table.notes.push(
        "memory used is MemTotal - MemAvailable; what a group is charged for includes pages of files that can be dropped"
            .to_owned(),
    );
    Ok(())
}

/// A small worker of another node's cluster, with its pods.
async fn worker(artifacts: &Artifacts, kube: &Path) -> anyhow::Result<Table> {
    let shape = Shape { name: "bench-workers", memory_mib: AMPLE_MIB, kubernetes: "" };
    let mut pair = Pair::boot(artifacts, kube, shape).await?;
    pair.join(WORKER_MIB, &[]).await?;
    pair.fill(WORKER_PODS, READY_LIMIT).await?;
    let mut api = pair.worker()?.api()?;
    pass(&mut api, SETTLE).await?;
    let title =
        format!("A worker with kubelet and {WORKER_PODS} pods in a machine of {WORKER_MIB} MiB");
    let mut table = Table::new(&title);
    memory(&mut api, &mut table).await?;
    Ok(table)
}

/// Bytes that each service, each pod of the node and all pods of the cluster have written to disks since they began, by cgroup.
async fn writers(api: &mut Api) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for group in api.cgroups(GROUPS).await? {
        if !is_listed(&group.path) {
            continue;
        }
        let text = api.read_text(&format!("/sys/fs/cgroup{}/io.stat", group.path)).await?;
        let bytes = text.split_whitespace().filter_map(|word| word.strip_prefix("wbytes="));
        found.insert(group.path.clone(), bytes.filter_map(|word| word.parse::<u64>().ok()).sum());
    }
    Ok(found)
}

/// The smallest machine of those tried that becomes a cluster and runs a pod.
async fn smallest(artifacts: &Artifacts, kube: &Path, patience: Duration) -> anyhow::Result<Table> {
    let mut table = Table::new("The smallest machine that becomes Ready and runs a pod");
    let mut works = f64::NAN;
    for memory_mib in SMALLER_MIB {
        match cluster(artifacts, kube, memory_mib, patience).await {
            Ok(started) => {
                let memory =
                    started.cluster.machine.api()?.status().await?.memory.unwrap_or_default();
                let what = format!("memory left in a machine of {memory_mib} MiB");
                table.add(&what, &[mib(memory.available_bytes)], "MiB");
                works = f64::from(memory_mib);
            }
            Err(error) => {
                table.notes.push(format!("{memory_mib} MiB are too little: {error:#}"));
                break;
            }
        }
    }
    table.add("memory of the smallest one", &[works], "MiB");
    table.at_most(1024.0, "a cluster in 1 GiB");
    Ok(table)
}

/// Whether a cgroup is one of those that together are all processes, each once.
fn is_listed(path: &str) -> bool {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    matches!(names.as_slice(), ["system" | "pods", _] | ["init" | "kubepods"])
}

/// Waits until so much time passed in the guest.
async fn pass(api: &mut Api, time: Duration) -> anyhow::Result<()> {
    let end = uptime(api).await? + time.as_secs_f64();
    // Emulation on a busy host may be many times slower than the guest's clock.
    let name = format!("{} s to pass in the guest", time.as_secs());
    ingot_qemu_tests::wait::until(&name, time * 10, async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok((uptime(api).await? >= end).then_some(()))
    })
    .await
}

/// Seconds since the guest's boot.
async fn uptime(api: &mut Api) -> anyhow::Result<f64> {
    let text = api.read_text("/proc/uptime").await?;
    text.split(' ').next().unwrap_or_default().parse().context("read /proc/uptime")
}

/// Sectors written to the only disk since the guest's boot.
async fn written(api: &mut Api) -> anyhow::Result<u64> {
    let text = api.read_text("/sys/block/vda/stat").await?;
    let field = text.split_whitespace().nth(SECTORS_WRITTEN);
    field.and_then(|field| field.parse().ok()).with_context(|| format!("the disk says {text:?}"))
}

/// Bytes as MiB.
#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of files and memory are far below 2^52 bytes"
)]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "a cluster has fewer than 2^52 events")]
fn number(count: usize) -> f64 {
    count as f64
}
