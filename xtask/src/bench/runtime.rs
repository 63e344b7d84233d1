//! Our node as a container runtime beside Debian's containerd with runc and with crun: the same virtual machine, the same kernel file, the
//! same images, the same client inside the machine, which measures with the machine's own clock.
//!
//! The clock follows the guest's instructions (one a nanosecond) while it works, and the host's clock while it idles: a busy host does not
//! make a runtime slow. One processor.

mod numbers;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ingot_qemu_tests::Clock;
use ingot_qemu_tests::artifacts::Artifacts;
use ingot_qemu_tests::cri::{Cri, RELAY_PORT};
use ingot_qemu_tests::cri_node;
use ingot_qemu_tests::critest::Runner;
use ingot_qemu_tests::machine::Machine;
use ingot_qemu_tests::registry::Registry;

use super::table::Table;
use super::{Bench, containerd};
use crate::image;
use crate::test::cri;
use numbers::Numbers;

/// Memory of every measured machine.
const MEMORY_MIB: u32 = 2048;
/// The image our node boots.
const PROFILE: &str = "demo";
/// Longest time until a machine answers, by the host's clock.
const BOOT_LIMIT: Duration = Duration::from_secs(20 * 60);
/// Longest time of one measurement, by the host's clock.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// A runtime that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum System {
    /// Ours.
    Ingot,
    /// containerd with runc.
    Runc,
    /// containerd with crun.
    Crun,
}

impl System {
    /// What it is called in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ingot => "ours",
            Self::Runc => "containerd with runc",
            Self::Crun => "containerd with crun",
        }
    }

    fn socket(self) -> &'static str {
        match self {
            Self::Ingot => cri_node::SOCKET,
            Self::Runc | Self::Crun => containerd::SOCKET,
        }
    }

    fn handler(self) -> &'static str {
        match self {
            Self::Ingot | Self::Runc => "-",
            Self::Crun => "crun",
        }
    }
}

/// Systems on which a measurement is worth its time.
type Who = &'static [System];
const ALL: Who = &[System::Ingot, System::Runc, System::Crun];
const RUNC: Who = &[System::Ingot, System::Runc];
const OURS: Who = &[System::Ingot];

/// What `cri-load` is asked for, in this order: name, words, of whom.
const LOADS: &[(&str, &str, Who)] = &[
    // First: after others, pods lie in memory that an agent has already.
    ("idle", "idle 0,10,50,100", RUNC),
    ("lifecycle", "lifecycle 40", ALL),
    ("sandboxes", "sandboxes 20", ALL),
    ("exits", "exits 30", ALL),
    ("burst", "burst 90", ALL),
    ("pull", "pull mirror.test/ingot/large:latest 3", RUNC),
    ("disk", "disk mirror.test/ingot/large:latest 200", RUNC),
    ("lists", "lists 250 200", OURS),
    ("churn", "churn 200", OURS),
];

/// critest's own benchmarks, beside the loads.
const CRITEST: &str = "critest";
/// How often critest does what it measures, one after the other.
const CRITEST_PARAMETERS: &str = "containersNumber: 30\ncontainersNumberParallel: 1\npodsNumber: 30\n\
                       podsNumberParallel: 1\nimagesNumber: 0\n";

/// The names that `--load` takes.
pub(super) fn load_names() -> Vec<&'static str> {
    LOADS.iter().map(|(name, ..)| *name).chain([CRITEST]).collect()
}

/// Measures the three systems.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Table>> {
    if bench.programs.is_none() {
        image::build(PROFILE, bench.quick)?;
    }
    let artifacts = image::artifacts(&bench.tools, PROFILE, bench.quick)?;
    let line = artifacts.image.command_line()?;
    let words: Vec<&str> = line.split_whitespace().filter(|it| !it.starts_with("ingot.")).collect();
    let peer = containerd::image(
        &bench.tools,
        &bench.progress,
        &bench.directory,
        &cri::workload()?,
        &artifacts.image.kernel(),
        &words.join(" "),
    )?;
    let system = bench.directory.join("containerd/root");
    let images = cri::bench_images(&bench.tools, &bench.directory, &system)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let wanted = |system: System| bench.systems.is_empty() || bench.systems.contains(&system);
    let theirs: Vec<System> =
        [System::Runc, System::Crun].into_iter().filter(|it| wanted(*it)).collect();
    let mut numbers = Numbers::default();
    runtime.block_on(async {
        if wanted(System::Ingot) {
            let (builder, _registry) = cri_node::builder(&artifacts, &images, "bench-runtime")?;
            let builder = builder.memory_mib(MEMORY_MIB).clock(Clock::Instructions).processors(1);
            let mut machine = builder.boot().await?;
            machine.wait_running().await?;
            all(bench, &mut machine, &[System::Ingot], &mut numbers).await?;
            machine.cut_power()?;
        }
        if !theirs.is_empty() {
            let registry = Registry::start(&images)?;
            let mut machine = containerd_machine(&artifacts, &peer, &registry).await?;
            all(bench, &mut machine, &theirs, &mut numbers).await?;
            machine.cut_power()?;
        }
        anyhow::Ok(())
    })?;
    Ok(numbers.tables())
}

async fn containerd_machine(
    artifacts: &Artifacts,
    image: &ingot_qemu_tests::artifacts::Image,
    registry: &Registry,
) -> anyhow::Result<Machine> {
    let builder = containerd::machine(artifacts, image, registry)
        .memory_mib(MEMORY_MIB)
        .clock(Clock::Instructions)
        .processors(1);
    builder.boot().await
}

/// The CRI behind a port. A machine whose clock counts instructions may take many minutes to boot on a busy host.
async fn reached(port: u16) -> anyhow::Result<Cri> {
    let begin = Instant::now();
    loop {
        match Cri::wait_at(port).await {
            Err(_) if begin.elapsed() < BOOT_LIMIT => {}
            reached => return reached,
        }
    }
}

/// Every measurement of the systems that one machine has. One that fails is told of in the table; the others go on.
async fn all(
    bench: &Bench,
    machine: &mut Machine,
    systems: &[System],
    numbers: &mut Numbers,
) -> anyhow::Result<()> {
    let cri = reached(machine.forwarded(RELAY_PORT)?).await?;
    let wanted = |load: &str| bench.loads.is_empty() || bench.loads.iter().any(|it| it == load);
    for system in systems {
        let runner = Runner::start(cri.clone(), system.socket()).await?;
        for (load, words, who) in LOADS {
            if wanted(load) && who.contains(system) {
                let measured = measure_load(&runner, *system, load, words, numbers).await;
                numbers.took(*system, load, measured);
            }
        }
        if wanted(CRITEST) {
            let measured = critest(&runner, *system, numbers).await;
            numbers.took(*system, CRITEST, measured);
        }
        runner.stop().await?;
    }
    Ok(())
}

async fn measure_load(
    runner: &Runner,
    system: System,
    load: &'static str,
    words: &str,
    numbers: &mut Numbers,
) -> anyhow::Result<()> {
    let command = format!("cri-load {} {} {words}", system.socket(), system.handler());
    let text = runner.output_of(load, &command, LIMIT).await?;
    numbers.load(system, load, &text)
}

/// critest's benchmarks, read from the files it writes.
async fn critest(runner: &Runner, system: System, numbers: &mut Numbers) -> anyhow::Result<()> {
    let handler = match system.handler() {
        "-" => String::new(),
        handler => format!("-runtime-handler {handler}"),
    };
    let folder = "/run/critest/benchmarks";
    let command = format!(
        "rm -rf {folder}; mkdir -p {folder}; printf '{CRITEST_PARAMETERS}' >/tmp/params.yaml; \
         critest -benchmark -runtime-endpoint unix://{0} -image-endpoint unix://{0} {handler} \
         -benchmarking-params-file /tmp/params.yaml -benchmarking-output-dir {folder} 2>&1 | tail -n 40 >&2; \
         ls {folder}/container_benchmark_data.json",
        system.socket()
    );
    runner.output_of("benchmark", &command, LIMIT).await.context("critest's benchmarks")?;
    for what in ["container", "pod"] {
        let file = format!("{folder}/{what}_benchmark_data.json");
        let text = runner.tool(&["cat", &file]).await?;
        numbers.critest(system, what, &text)?;
    }
    Ok(())
}
