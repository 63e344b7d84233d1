//! Our node as a container runtime beside Debian's containerd with runc and with crun: the same virtual machine, the same kernel file, the
//! same images, the same client inside the machine, which measures with the machine's own clock.
//!
//! The clock follows the guest's instructions (one a nanosecond) while it works, and the host's clock while it idles: a busy host does not
//! make a runtime slow. One processor.

mod numbers;

use std::time::Duration;

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
/// Longest time of one measurement, by the host's clock.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// A large image, for pulls.
const LARGE: &str = "mirror.test/ingot/large:latest";

/// A runtime that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// What `cri-load` is asked for, in this order: name, words, and whether crun is worth asking too.
const LOADS: &[(&str, &str, bool)] = &[
    ("lifecycle", "lifecycle 40", true),
    ("sandboxes", "sandboxes 20", true),
    ("exits", "exits 30", true),
    ("burst", "burst 90", true),
    ("idle", "idle 0,10,50,100", false),
];

/// critest's own benchmarks: how often, one after the other.
const CRITEST: &str = "containersNumber: 30\ncontainersNumberParallel: 1\npodsNumber: 30\n\
                       podsNumberParallel: 1\nimagesNumber: 0\n";

/// Measures the three systems.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Table>> {
    if bench.programs.is_none() {
        image::build(PROFILE, false)?;
    }
    let artifacts = image::artifacts(&bench.tools, PROFILE, false)?;
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
    let mut numbers = Numbers::default();
    runtime.block_on(async {
        let (builder, _registry) = cri_node::builder(&artifacts, &images, "bench-runtime")?;
        let builder = builder.memory_mib(MEMORY_MIB).clock(Clock::Instructions).processors(1);
        let mut machine = builder.boot().await?;
        machine.wait_running().await?;
        all(&mut machine, &[System::Ingot], &mut numbers).await?;
        machine.cut_power()?;
        let registry = Registry::start(&images)?;
        let mut machine = containerd_machine(&artifacts, &peer, &registry).await?;
        all(&mut machine, &[System::Runc, System::Crun], &mut numbers).await?;
        machine.cut_power()
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

/// Every measurement of the systems that one machine has.
async fn all(
    machine: &mut Machine,
    systems: &[System],
    numbers: &mut Numbers,
) -> anyhow::Result<()> {
    let cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
    for system in systems {
        let runner = Runner::start(cri.clone(), system.socket()).await?;
        let name = system.name();
        for (load, words, with_crun) in LOADS {
            if *system == System::Crun && !with_crun {
                continue;
            }
            let command = format!("cri-load {} {} {words}", system.socket(), system.handler());
            let text = runner.output_of(load, &command, LIMIT).await;
            let text = text.with_context(|| format!("measure {load} of {name}"))?;
            println!("  {name}: {load} measured");
            numbers.load(*system, load, &text)?;
        }
        let command = format!("cri-load {} {} pull {LARGE} 3", system.socket(), system.handler());
        let text = runner.output_of("pull", &command, LIMIT).await?;
        numbers.load(*system, "pull", &text)?;
        critest(&runner, *system, numbers).await?;
        runner.stop().await?;
    }
    Ok(())
}

/// critest's benchmarks, read from the files it writes.
async fn critest(runner: &Runner, system: System, numbers: &mut Numbers) -> anyhow::Result<()> {
    let handler = match system.handler() {
        "-" => String::new(),
        handler => format!("-runtime-handler {handler}"),
    };
    let folder = "/run/critest/benchmarks";
    let command = format!(
        "rm -rf {folder}; mkdir -p {folder}; printf '{CRITEST}' >/tmp/params.yaml; \
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
