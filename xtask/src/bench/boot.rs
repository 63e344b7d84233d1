//! Where the time of a boot goes, ours beside the floor and the peer.

use super::guest::Guest;
use super::report::Report;
use super::table::Table;
use super::{Bench, disk, peer};

/// Kernel command line of every measured boot, before what a system needs for itself. `quiet` because a verbose console
/// costs time on a real serial line only.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1";

/// The kernel with a PID 1 that does nothing.
pub(super) fn floor(bench: &Bench) -> anyhow::Result<Table> {
    let initrd = bench.directory.join("floor.cpio");
    disk::initramfs(&bench.probe()?, &initrd)?;
    let guest = Guest {
        name: "floor".to_owned(),
        kernel: peer::kernel(bench)?.image,
        initrd: Some(initrd),
        command_line: COMMAND_LINE.to_owned(),
        disk: None,
    };
    let reports = repeat(bench, &guest)?;
    let mut table = Table::new("Floor: the same kernel with a PID 1 that does nothing");
    table.add("reset to PID 1", &each(&reports, |report| report.vms("pid1"))?, "vms");
    Ok(table)
}

/// Debian with systemd and containerd.
pub(super) fn peer(bench: &Bench) -> anyhow::Result<Table> {
    let guest = peer::guest(bench, COMMAND_LINE)?;
    let reports = repeat(bench, &guest)?;
    let mut table = Table::new("Peer: Debian with systemd and containerd");
    table.add("reset to PID 1", &each(&reports, |report| report.vms("pid1"))?, "vms");
    let userspace = |report: &Report| Ok(report.vms("ready")? - report.vms("exec")?);
    table.add("PID 1 to containerd's CRI answering", &each(&reports, userspace)?, "vms");
    table.add("idle: PSS of all processes", &each(&reports, |report| Ok(pss_mib(report)))?, "MiB");
    table.add("idle: memory used", &each(&reports, used_mib)?, "MiB");
    table.add(
        "idle: processes",
        &each(&reports, |report| Ok(count(report.processes("idle").len())))?,
        "",
    );
    Ok(table)
}

/// Boots several times.
fn repeat(bench: &Bench, guest: &Guest) -> anyhow::Result<Vec<Report>> {
    (0..bench.repeats).map(|_| guest.run(&bench.tools, &bench.directory)).collect()
}

/// One number of each report.
fn each(
    reports: &[Report],
    number: impl Fn(&Report) -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<f64>> {
    reports.iter().map(number).collect()
}

/// PSS of all processes of the idle system in MiB.
fn pss_mib(report: &Report) -> f64 {
    mib(report.processes("idle").iter().map(|process| process.pss_kib).sum())
}

/// Memory that is not available any more in MiB.
fn used_mib(report: &Report) -> anyhow::Result<f64> {
    Ok(mib(report.number("mem_total")?.saturating_sub(report.number("mem_available")?)))
}

/// KiB as MiB.
#[expect(clippy::cast_precision_loss, reason = "memory of a machine is far below 2^52 KiB")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "counts of processes are small")]
fn count(number: usize) -> f64 {
    number as f64
}
