//! Builds, boots and tries a node: what a newcomer sees first. Everything an operator would type is done with `ingotctl`;
//! what is measured comes from the machine API.

mod kubernetes;
mod operator;
mod quotas;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use ingot_qemu_tests::artifacts::Artifacts;
use ingot_qemu_tests::client::Api;
use ingot_qemu_tests::machine::{BOOT_LIMIT, Machine, MachineBuilder};

use crate::{image, setup, workspace};
use operator::Operator;

/// The image the demo boots.
const PROFILE: &str = "demo";
/// What the console says in front of the code of a node without config.
const CODE_PREFIX: &str = "pairing code: ";

/// Columns of the summary: longer words are wrapped, so that it fits most terminals.
const TABLE_WIDTH: u16 = 110;

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Power the node off at the end instead of leaving it running.
    #[arg(long)]
    once: bool,
    /// Show a whole cluster: the node becomes upstream Kubernetes, with a kubectl for it.
    #[arg(long)]
    kubernetes: bool,
    /// Compile the node's programs fast instead of small: for trying a change.
    #[arg(long)]
    quick: bool,
}

/// Runs `cargo xtask demo`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let progress = ingot_image_builder::progress::Terminal::new();
    let tools = setup::ensure(&progress)?;
    drop(progress);
    if args.kubernetes {
        return kubernetes::run(args, &tools);
    }
    step("building the image (the first time takes minutes)");
    image::build(PROFILE, args.quick)?;
    step("building ingotctl");
    let artifacts = image::artifacts(&tools, PROFILE, args.quick)?;
    let directory = directory();
    in_place_of_previous(&directory, demo(args, &artifacts, &directory))
}

/// Where a demo keeps what it makes.
fn directory() -> PathBuf {
    workspace::target().join("demo")
}

/// Ends the node of the demo before, then runs this one.
fn in_place_of_previous(
    directory: &Path,
    demo: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    stop_previous(directory)?;
    // One thread: the kernel ends a QEMU that may not live on with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(demo)
}

async fn demo(args: &Args, artifacts: &Artifacts, directory: &Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut machine = boot(args, Machine::builder(artifacts, "demo"), directory).await?;
    let result = show(args, &mut machine, directory, begin).await;
    if let Err(error) = &result {
        give_up(&mut machine, error).await?;
    }
    result
}

/// Starts the demo's machine, and remembers it for the next demo.
async fn boot(args: &Args, builder: MachineBuilder, directory: &Path) -> anyhow::Result<Machine> {
    let builder = if args.once { builder } else { builder.lives_on_in(&directory.join("node")) };
    let machine = builder.boot().await?;
    if let Some(pid) = machine.process_id() {
        fs_err::create_dir_all(directory)?;
        fs_err::write(pid_file(directory), pid.to_string())?;
    }
    Ok(machine)
}

/// Keeps what is known about a node whose demo failed, and switches it off.
async fn give_up(machine: &mut Machine, error: &anyhow::Error) -> anyhow::Result<()> {
    let folder = machine.keep_evidence("demo", &format!("{error:?}")).await?;
    eprintln!("what is known about the node is in {}", folder.display());
    if machine.process_id().is_some() {
        machine.cut_power()?;
    }
    Ok(())
}

/// Waits for a machine without config to show its pairing code.
async fn pairing_code(machine: &Machine) -> anyhow::Result<String> {
    let code = waiting(
        "booting: UEFI, verified root, PID 1, agent",
        machine.console().wait_for_text(CODE_PREFIX, BOOT_LIMIT),
    )
    .await?;
    let code = code.split_whitespace().next().unwrap_or_default().to_owned();
    step(&format!(
        "the node waits for its first config; its console shows the pairing code {code}"
    ));
    Ok(code)
}

/// The demo proper: the machine is on, and nobody has told it anything.
async fn show(
    args: &Args,
    machine: &mut Machine,
    directory: &Path,
    begin: Instant,
) -> anyhow::Result<()> {
    let mut table = summary();
    let code = pairing_code(machine).await?;
    let booted = begin.elapsed();
    table.add_row(["a node without config", "shows a pairing code", &code]);

    let operator = Operator::generate(directory, machine, "", &quotas::pods())?;
    step("the config has four pods: one spins, one wants too much memory, one forks, one behaves");
    operator.apply(&code)?;
    let mut api = operator.api()?;
    waiting("the node makes its config true", quotas::running(&mut api)).await?;
    let version = api.version().await?;
    let status = api.status().await?;
    let root = status.root.context("the status says nothing about the root")?;
    table.add_row(["kernel", "6.12 LTS of Debian", &version.kernel]);
    table.add_row([
        "root file system",
        "verified, read-only",
        &format!("{}, {}", root.verity, if root.read_only { "read-only" } else { "WRITABLE" }),
    ]);
    ensure!(
        root.verity == "verified" && root.read_only,
        "the root is not what it should be: {root:?}"
    );

    quotas::prove(&mut api, &mut table).await?;
    processes(&mut api, &mut table).await?;
    table.add_row([
        "time from power-on",
        "",
        &format!(
            "{} s to the pairing code, {} s in all (emulation is slow)",
            booted.as_secs(),
            begin.elapsed().as_secs()
        ),
    ]);
    if args.once {
        waiting("powering off by the API", machine.shutdown_by(&mut api)).await?;
        let _gone = fs_err::remove_file(pid_file(directory));
        table.add_row(["power off by the API", "the machine is off", "off"]);
        println!("\n{table}\n\nthe demo is over; `cargo xtask demo` leaves the node running");
    } else {
        println!("\n{table}\n\n{}", operator.next_commands());
    }
    Ok(())
}

/// The table of what was seen, empty.
fn summary() -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(comfy_table::ContentArrangement::Dynamic)
        .set_width(TABLE_WIDTH)
        .set_header(["what", "expected", "seen"]);
    table
}

/// What runs on the node: PID 1, the agent, and the pods' own processes.
async fn processes(api: &mut Api, table: &mut Table) -> anyhow::Result<()> {
    let services = api.services().await?;
    let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
    table.add_row(["services beside PID 1", "the agent only", &names.join(", ")]);
    Ok(())
}

/// One line for what is done now.
fn step(text: &str) {
    println!("==> {text}");
}

/// Shows that something is being waited for, and for how long.
async fn waiting<T>(
    text: &str,
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let begin = Instant::now();
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    let result = future.await;
    bar.finish_and_clear();
    let value = result.with_context(|| text.to_owned())?;
    step(&format!("{text}: done after {} s", begin.elapsed().as_secs()));
    Ok(value)
}

fn pid_file(directory: &Path) -> PathBuf {
    directory.join("qemu.pid")
}

/// Ends the node of an earlier demo: there is one demo at a time.
fn stop_previous(directory: &Path) -> anyhow::Result<()> {
    let file = pid_file(directory);
    let Ok(text) = fs_err::read_to_string(&file) else { return Ok(()) };
    let pid: i32 = text.trim().parse().with_context(|| format!("read {}", file.display()))?;
    let words = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // The number may belong to somebody else by now: only a QEMU on our disk is ours.
    let ours = String::from_utf8_lossy(&words).contains(&*directory.join("node").to_string_lossy());
    if let (true, Some(process)) = (ours, rustix::process::Pid::from_raw(pid)) {
        step("stopping the node of the last demo");
        rustix::process::kill_process(process, rustix::process::Signal::KILL)
            .context("stop the last demo's QEMU")?;
    }
    Ok(fs_err::remove_file(&file)?)
}
