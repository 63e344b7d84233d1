//! Measures the numbers the project promises. Boots run in guest virtual time, so that a number is the same on every
//! machine and however busy it is; nothing here is a test, and no test asserts a time.
//!
//! `cargo xtask bench` prints tables and, with `--json`, writes the same numbers to a file.

mod boot;
pub(crate) mod containerd;
mod disk;
mod floor;
mod guest;
mod ingot;
mod kubernetes;
mod peer;
mod quota;
mod report;
mod runtime;
mod sizes;
mod table;

use std::path::PathBuf;

use anyhow::Context as _;
use ingot_image_builder::progress::Terminal;
use ingot_image_builder::tools::Tools;

use crate::workspace;
use table::Table;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these measurements.
    #[arg(value_name = "NAME")]
    names: Vec<Name>,
    /// Write the numbers to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Boots of each system.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Take finished programs, the probe included, from this directory instead of compiling them.
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
    /// What of `runtime` to measure: its loads by name, or all.
    #[arg(long = "load", value_name = "LOAD", value_parser = runtime::load_names())]
    loads: Vec<String>,
    /// Which systems `runtime` measures; all when there are none.
    #[arg(long = "system", value_name = "SYSTEM")]
    systems: Vec<runtime::System>,
    /// Let `runtime` and `kubernetes` measure the programs as they are compiled for trying a change: only to compare one such run with
    /// another.
    #[arg(long)]
    quick: bool,
    /// Let `kubernetes` boot the image that is there, without building it first.
    #[arg(long)]
    no_build: bool,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// Time to a node that answers, and memory once it idles: ours, a Debian peer, and a PID 1 that does nothing.
    Boot,
    /// Sizes of our programs and of the image, and what it is made of.
    Sizes,
    /// Whether processor and memory limits of pods hold.
    Quota,
    /// Containers, pods, images and memory through the CRI: ours, and containerd with runc and with crun.
    Runtime,
    /// Memory, disk writes and smallest machine of a cluster of one node (by its name only: it takes hours in emulation).
    Kubernetes,
}

/// Measurements of a run without names, in the order they run.
const NAMES: [Name; 4] = [Name::Boot, Name::Sizes, Name::Quota, Name::Runtime];

/// What every measurement needs.
struct Bench {
    tools: Tools,
    progress: Terminal,
    /// `target/bench`.
    directory: PathBuf,
    repeats: u32,
    programs: Option<PathBuf>,
    loads: Vec<String>,
    systems: Vec<runtime::System>,
    quick: bool,
    no_build: bool,
}

/// Runs `cargo xtask bench`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let progress = Terminal::new();
    let tools = Tools::ensure(&workspace::target(), &progress)?;
    let directory = workspace::target().join("bench");
    fs_err::create_dir_all(&directory)?;
    let programs = args.programs.clone();
    let (loads, systems) = (args.loads.clone(), args.systems.clone());
    let (repeats, quick) = (args.repeats, args.quick);
    let no_build = args.no_build;
    let bench =
        Bench { tools, progress, directory, repeats, programs, loads, systems, quick, no_build };
    let mut tables = Vec::new();
    let names = if args.names.is_empty() { NAMES.to_vec() } else { args.names.clone() };
    for name in names {
        let measured = bench.measure(name).with_context(|| format!("measure {name:?}"))?;
        // That one takes long and shows each table when it has it.
        if name != Name::Kubernetes {
            measured.iter().for_each(show);
        }
        tables.extend(measured);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&tables).context("write the numbers as JSON")?;
        fs_err::write(path, text + "\n")?;
    }
    Ok(())
}

fn show(table: &Table) {
    println!("{table}");
}

impl Bench {
    fn measure(&self, name: Name) -> anyhow::Result<Vec<Table>> {
        match name {
            Name::Boot => boot::measure(self),
            Name::Sizes => sizes::measure(self),
            Name::Quota => quota::measure(self),
            Name::Runtime => runtime::measure(self),
            Name::Kubernetes => kubernetes::measure(self, show),
        }
    }

    /// The stopwatch that runs inside the guest: static and stripped.
    fn probe(&self) -> anyhow::Result<PathBuf> {
        if let Some(programs) = &self.programs {
            return Ok(programs.join("ingot-probe"));
        }
        let words = ["build", "--quiet", "--locked", "--release", "--package", "ingot-probe"];
        workspace::run(workspace::cargo().args(words))?;
        Ok(workspace::target().join("x86_64-unknown-linux-gnu/release/ingot-probe"))
    }
}
