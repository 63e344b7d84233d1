//! Where the time of a boot goes, ours beside the floor and the peer, and what memory the idle system needs.

use anyhow::Context as _;

use super::guest::{Clock, Guest};
use super::ingot::Ingot;
use super::report::Report;
use super::table::Table;
use super::{Bench, floor, peer};

/// What the probe does besides waiting for the API: looks at memory after a minute of guest time.
const PLAN: &str = "idle 60\n";

/// Most of the boot that may be ours: B2 of the goals.
const WHOLE_BOOT_MAX: f64 = 1.15;

/// Boots the three systems in turn.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Table>> {
    let ingot = Ingot::build(bench, "vm", PLAN, "")?;
    let first = ingot.first_boot(bench)?;
    let guests =
        [floor::guest(bench, &ingot)?, peer::guest(bench, &ingot)?, ingot.later_boot(&first)];
    let run = |guest: &Guest, clock| guest.run(clock, &bench.tools, &bench.directory);
    // Makes the partitions that every later boot finds.
    let first = run(&first, Clock::Timed)?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..bench.repeats {
        for (guest, times) in guests.iter().zip(&mut times) {
            times.push(run(guest, Clock::Timed)?);
        }
    }
    let [floor_times, peer_times, our_times] = times;
    let [_, peer, ours] = guests;
    let (peer, ours) = ([run(&peer, Clock::Skipping)?], [run(&ours, Clock::Skipping)?]);
    Ok(vec![
        times_table(&floor_times, &peer_times, &our_times, &first)?,
        profile(&our_times)?,
        memory(&peer, &ours)?,
    ])
}

/// The promises about time.
fn times_table(
    floor: &[Report],
    peer: &[Report],
    ours: &[Report],
    first: &Report,
) -> anyhow::Result<Table> {
    let mut table = Table::new("Boot, in guest virtual milliseconds");
    let floor = each(floor, |report| report.vms("pid1"))?;
    table.add("floor: reset to a PID 1 that does nothing", &floor, "vms");
    let peer = each(peer, userspace)?;
    table.add("peer: systemd to containerd's CRI answering", &peer, "vms");
    let ready = each(ours, userspace)?;
    table.add("ours: PID 1 to an mTLS Version answered", &ready, "vms");
    table.at_most(300.0, "B1");
    table.add("ours: the same at first boot", &[userspace(first)?], "vms");
    table.add("peer / ours", &[median(&peer) / median(&ready)], "");
    table.at_least(20.0, "B1");
    // Between the initrd handing over and the probe executing PID 1 is only the probe, which no real boot has.
    let whole = |report: &Report| Ok(handed_over(report)? + userspace(report)?);
    let whole = each(ours, whole)?;
    table.add("ours: reset to an mTLS Version answered", &whole, "vms");
    table.add("ours / floor, whole boot", &[median(&whole) / median(&floor)], "");
    table.at_most(WHOLE_BOOT_MAX, "B2");
    Ok(table)
}

/// Where each millisecond of our boot goes.
fn profile(ours: &[Report]) -> anyhow::Result<Table> {
    let mut table = Table::new("Where the time goes");
    table.add("firmware, decompression", &each(ours, kernel_start)?, "vms");
    table.add("kernel", &each(ours, |r| Ok(initrd_start(r)? - kernel_start(r)?))?, "vms");
    table.add("ingot-initrd", &each(ours, |r| Ok(handed_over(r)? - initrd_start(r)?))?, "vms");
    let listens = |r: &Report| Ok(r.vms("machine_listens")? - r.vms("exec")?);
    table.add("PID 1 to the API listening", &each(ours, listens)?, "vms");
    let answers = |r: &Report| Ok(r.vms("machine_answers")? - r.vms("machine_listens")?);
    table.add("listening to answered", &each(ours, answers)?, "vms");
    let Some(report) = ours.last() else { return Ok(table) };
    // PID 1's includes what the kernel did as its first task.
    for process in report.processes("at_ready").into_iter().filter(|process| process.pid != 1) {
        let milliseconds = Report::milliseconds(process.time_ns);
        let what = format!("processor time of {} until ready", process.name);
        table.add(&what, &[milliseconds], "vms");
    }
    for disk in report.texts("disk") {
        table.notes.push(format!("reads until ready (disk, requests, sectors): {disk}"));
    }
    let exec = report.vms("exec")?;
    for (time, text) in report.log()?.into_iter().filter(|(_, text)| text.starts_with("ingot")) {
        table.notes.push(format!("{:8.1} vms after PID 1: {text}", time - exec));
    }
    Ok(table)
}

/// The promises about memory.
fn memory(peer: &[Report], ours: &[Report]) -> anyhow::Result<Table> {
    let mut table = Table::new("Memory of the idle system, one minute after it was ready");
    table.add("peer: PSS of all processes", &each(peer, |report| Ok(pss_mib(report)))?, "MiB");
    table.add("peer: memory used", &each(peer, used_mib)?, "MiB");
    table.add("peer: processes", &each(peer, processes)?, "");
    table.add("ours: PSS of all processes", &each(ours, |report| Ok(pss_mib(report)))?, "MiB");
    table.at_most(12.0, "M1");
    table.add("ours: memory used", &each(ours, used_mib)?, "MiB");
    table.at_most(64.0, "M3");
    table.add("ours: processes", &each(ours, processes)?, "");
    for process in ours.last().map(|report| report.processes("idle")).unwrap_or_default() {
        let what = format!("ours: PSS of {}, {} threads", process.name, process.threads);
        table.add(&what, &[mib(process.pss_kib)], "MiB");
    }
    table.notes.push(
        "memory used is MemTotal - MemAvailable, with the probe's own share in it".to_owned(),
    );
    Ok(table)
}

/// From PID 1 to the last service answering.
fn userspace(report: &Report) -> anyhow::Result<f64> {
    Ok(report.vms("ready")? - report.vms("exec")?)
}

/// When the kernel's clock began.
fn kernel_start(report: &Report) -> anyhow::Result<f64> {
    report.vms("clock_offset")
}

/// When the first program of the initrd ran.
fn initrd_start(report: &Report) -> anyhow::Result<f64> {
    logged(report, "ingot-initrd: started")
}

/// When the initrd was done.
fn handed_over(report: &Report) -> anyhow::Result<f64> {
    logged(report, "ingot-initrd: handing over")
}

/// When the first line that begins like this was logged.
fn logged(report: &Report, beginning: &str) -> anyhow::Result<f64> {
    let log = report.log()?;
    let line = log.iter().find(|(_, text)| text.starts_with(beginning));
    line.map(|(time, _)| *time).with_context(|| format!("the kernel log has no `{beginning}`"))
}

/// One number of each report.
fn each(
    reports: &[Report],
    number: impl Fn(&Report) -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<f64>> {
    reports.iter().map(number).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// PSS of all processes of the idle system in MiB.
fn pss_mib(report: &Report) -> f64 {
    mib(report.processes("idle").iter().map(|process| process.pss_kib).sum())
}

/// Memory that is not available any more in MiB.
fn used_mib(report: &Report) -> anyhow::Result<f64> {
    Ok(mib(report.number("mem_total")?.saturating_sub(report.number("mem_available")?)))
}

#[expect(clippy::cast_precision_loss, reason = "a machine has fewer than 2^52 processes")]
fn processes(report: &Report) -> anyhow::Result<f64> {
    Ok(report.processes("idle").len() as f64)
}

/// KiB as MiB.
#[expect(clippy::cast_precision_loss, reason = "memory of a machine is far below 2^52 KiB")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
