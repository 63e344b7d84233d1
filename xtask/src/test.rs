//! Runs the tests of the workspace and those in QEMU. Knows what to run in which order; the checks are in `qemu-tests`.

pub(crate) mod cri;
pub(crate) mod cri_tools;
mod helm;
mod hostile;
pub(crate) mod images;
mod kubernetes;
mod oci;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, bail};
use ingot_qemu_tests::faults::Faults;
use ingot_qemu_tests::report::Report;
use ingot_qemu_tests::suites::{self, SUITES};

use crate::{image, setup, workspace};

/// Unit and property tests on the host.
const HOST: &str = "host";
/// Two builds of the same image, compared.
const REPRODUCIBLE: &str = "reproducible";
/// The image the suites boot: it bundles the workloads.
const PROFILE: &str = "demo";

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Suites to run; all when none is given.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Run what takes long, too.
    #[arg(long)]
    full: bool,
    /// How many pods, containers, kills or cuts the suites `density`, `churn`, `cri_crash` and `cri_power_cut` make, instead of their own number.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(4..))]
    count: Option<u32>,
    /// Seed of everything that happens by chance; printed by every run.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Boot the image that is there, without building it first.
    #[arg(long)]
    no_build: bool,
    /// Compile the node's programs fast instead of small: for trying a change. What counts is a run without it.
    #[arg(long)]
    quick: bool,
    /// Run the suites of the CRI against Debian's containerd instead of our node: shows what the harness is worth.
    #[arg(long)]
    peer: bool,
    /// Run only these parts of a suite: of `critest` the specs of a file of its source, e.g. `streaming.go`, of `kubernetes` a group, e.g.
    /// `healing`, or `short` for what of it runs without names.
    #[arg(long, value_name = "PART")]
    focus: Vec<String>,
    /// List the suites and stop.
    #[arg(long)]
    list: bool,
}

/// Runs `cargo xtask test`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.list {
        for (name, about) in all_suites() {
            println!("{name:14} {about}");
        }
        return Ok(());
    }
    if let Some(unknown) =
        args.names.iter().find(|name| all_suites().all(|(known, _)| known != *name))
    {
        let known: Vec<&str> = all_suites().map(|(name, _)| name).collect();
        bail!("there is no suite {unknown:?}; there are {}", known.join(", "));
    }
    let begin = Instant::now();
    let progress = ingot_image_builder::progress::Terminal::new();
    let tools = setup::ensure(&progress)?;
    drop(progress);
    let report = Report::default();
    if args.peer {
        cri::against_containerd(&tools, args, &report)?;
        return summary(begin, &report);
    }
    let kubernetes = kubernetes::begin(args);
    if args.wants(HOST) {
        host(&report)?;
        stage("the workspace's tests", begin);
    }
    in_qemu(args, &tools, kubernetes, &report)?;
    stage("the suites", begin);
    if args.wants(REPRODUCIBLE) {
        reproducible(args, &report);
    }
    summary(begin, &report)
}

/// Says how long a run has taken so far: what takes long is nobody's feeling.
fn stage(done: &str, begin: Instant) {
    let took = begin.elapsed().as_secs();
    println!("\n{done} are over after {} min {} s", took / 60, took % 60);
}

/// The last lines; an error when anything failed.
fn summary(begin: Instant, report: &Report) -> anyhow::Result<()> {
    println!("\ntook {} min {} s", begin.elapsed().as_secs() / 60, begin.elapsed().as_secs() % 60);
    for line in report.last_words() {
        println!("{line}");
    }
    println!("{}", report.summary());
    if !report.all_passed() {
        bail!("some tests failed");
    }
    Ok(())
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

fn all_suites() -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = [
        (HOST, "unit and property tests on this machine"),
        (REPRODUCIBLE, "building the image twice gives the same bytes (with --full, or by name)"),
    ];
    own.into_iter().chain(SUITES.iter().map(|suite| (suite.name, suite.about)))
}

/// `cargo test` of the whole workspace; none of these tests boots anything.
fn host(report: &Report) -> anyhow::Result<()> {
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    command.stdout(Stdio::piped());
    let mut child = command.spawn().context("start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut failed_before_counting = true;
    for line in BufReader::new(output).lines() {
        let line = line.context("read the output of cargo")?;
        if let Some(counts) = counts(&line) {
            failed_before_counting = false;
            report.add(counts[0], counts[1], counts[2]);
        } else if !line.is_empty() {
            println!("{line}");
        }
    }
    let status = child.wait().context("wait for cargo")?;
    // Code that does not compile is no failed test in cargo's count.
    if !status.success() && (failed_before_counting || report.all_passed()) {
        let error = anyhow::anyhow!("`{}` ended with {status}", workspace::describe(&command));
        report.suite(HOST).failed("the workspace's tests build and run", Instant::now(), &error);
    }
    Ok(())
}

/// Passed, failed and ignored from a line like `test result: ok. 7 passed; 0 failed; 1 ignored; ...`.
fn counts(line: &str) -> Option<[usize; 3]> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = rest.split(';').find_map(|part| part.trim().strip_suffix(word))?;
        before.split_whitespace().last()?.parse().ok()
    };
    Some([number("passed")?, number("failed")?, number("ignored")?])
}

fn in_qemu(
    args: &Args,
    tools: &ingot_image_builder::tools::Tools,
    build: Option<kubernetes::Build>,
    report: &Report,
) -> anyhow::Result<()> {
    let names: Vec<String> = args
        .names
        .iter()
        .filter(|name| SUITES.iter().any(|suite| suite.name == *name))
        .cloned()
        .collect();
    if names.is_empty() && !args.names.is_empty() {
        return Ok(());
    }
    if !args.no_build {
        image::build(PROFILE, args.quick)?;
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("\nseed {seed} (have the same chances again with --seed {seed})");
    let artifacts = image::artifacts(tools, PROFILE, args.quick)?;
    let cri = cri::kit(tools, &names, args, report)?;
    let count = args.count.map(usize::try_from).transpose().context("--count")?;
    let faults = Faults::new(seed);
    let kubernetes = kubernetes::kit(tools, build, args, report)?;
    let full = args.full;
    let context = suites::Context { artifacts, full, count, faults, cri, kubernetes };
    // One thread: the kernel ends each QEMU with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(suites::run(&context, &names, report));
    Ok(())
}

fn reproducible(args: &Args, report: &Report) {
    let name = "the same image twice";
    let report = report.suite(REPRODUCIBLE);
    if !args.full && args.names.is_empty() {
        return report.skip(name, "takes long; run with --full or by its name");
    }
    let judge = |name, begin, result: anyhow::Result<()>| match result {
        Ok(()) => report.passed(name, begin),
        Err(error) => report.failed(name, begin, &error),
    };
    judge(name, Instant::now(), image::build_twice(PROFILE, None));
    let name = "the same image with Kubernetes twice";
    let begin = Instant::now();
    match crate::kubernetes::ensure() {
        Ok(built) => judge(name, begin, image::build_twice(PROFILE, Some(built))),
        Err(error) if std::env::var_os("CI").is_some() => report.failed(name, begin, &error),
        Err(error) => report.skip(name, &format!("Kubernetes cannot be built: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn cargo_s_counts_are_read_from_its_last_line() {
        let line = "test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(counts(line), Some([7, 2, 1]));
        assert_eq!(counts("test foo ... ok"), None);
    }
}
