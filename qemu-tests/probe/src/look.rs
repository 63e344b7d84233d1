//! What procfs says about the machine: processes and their memory, memory as a whole, disk reads, the kernel log.
//! Reads only.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

use crate::clock;
use crate::report::Report;

/// Reports each process that has memory of its own: pid, PSS in KiB, processor time in nanoseconds, threads, name.
pub(crate) fn processes(moment: &str, report: &mut Report) -> anyhow::Result<()> {
    let own = std::process::id();
    for entry in fs_err::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ended since, or a kernel thread, has no such file or an empty one.
        let rollup =
            std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let Some(pss) = field(&rollup, "Pss:") else { continue };
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let (time, threads) = threads(pid);
        let name = if pid == own { "probe" } else { name.trim() };
        report.text(&format!("process_{moment}"), &format!("{pid} {pss} {time} {threads} {name}"));
    }
    Ok(())
}

/// Processor time of all threads of a process in nanoseconds, and their number.
fn threads(pid: u32) -> (u64, u64) {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|time| time.parse().ok()).unwrap_or(0_u64)
    });
    times.fold((0, 0), |(sum, count), time| (sum + time, count + 1))
}

/// Reports total and available memory in KiB.
pub(crate) fn memory(report: &mut Report) -> anyhow::Result<()> {
    let text = fs_err::read_to_string("/proc/meminfo")?;
    for (key, label) in [("mem_total", "MemTotal:"), ("mem_available", "MemAvailable:")] {
        report.number(
            key,
            field(&text, label).with_context(|| format!("{label} is not in /proc/meminfo"))?,
        );
    }
    Ok(())
}

/// Reports sectors of 512 bytes read from whole disks.
pub(crate) fn disks(report: &mut Report) -> anyhow::Result<()> {
    for line in fs_err::read_to_string("/proc/diskstats")?.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let [_, _, name, reads, _, sectors, ..] = words.as_slice() {
            report.text("disk", &format!("{name} {reads} {sectors}"));
        }
    }
    Ok(())
}

/// Reports the kernel log, and how far its clock is behind the time stamp counter, in nanoseconds.
pub(crate) fn kernel_log(report: &mut Report) -> anyhow::Result<()> {
    let time = clock_gettime(ClockId::Monotonic);
    let monotonic = time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
    report.number("clock_offset", clock::tsc().saturating_sub(monotonic));
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open("/dev/kmsg")
        .context("open /dev/kmsg")?;
    // One read is one record; none is longer than this.
    let mut record = vec![0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let text =
                    String::from_utf8_lossy(record.get(..length).unwrap_or_default()).into_owned();
                report.text("log", text.lines().next().unwrap_or_default());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // Records were overwritten while we read; the next read begins with the oldest that is left.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
            Err(error) => return Err(error).context("read /dev/kmsg"),
        }
    }
}

/// The number behind a label in a file of `label: number` lines.
fn field(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(label))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
