//! Whether limits hold: what each limited cgroup of pods really used, read from its own files over a fixed time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::report::Report;

/// Where pods live.
const PODS: &str = "/sys/fs/cgroup/pods";

/// Longest wait for pods to appear, in guest time.
const PODS_TIMEOUT: Duration = Duration::from_secs(600);

/// Time containers are given to start before the measured time begins.
const SETTLE: Duration = Duration::from_secs(5);

/// Reports, for each container: limits, processor time used and passed in microseconds, and its memory peak in bytes.
pub(crate) async fn watch(time: Duration, report: &mut Report) -> anyhow::Result<()> {
    let start = tokio::time::Instant::now();
    while containers().is_empty() && start.elapsed() < PODS_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let before: Vec<_> = containers().into_iter().map(|dir| (now(), usage(&dir), dir)).collect();
    tokio::time::sleep(time).await;
    for (started, used_before, dir) in before {
        let used = usage(&dir).saturating_sub(used_before);
        let passed = now().saturating_sub(started);
        let read = |file| one_line(&dir, file).replace(' ', "/");
        let line = format!(
            "{} cpu.max={} used={used} passed={passed} memory.max={} memory.peak={} oom_kill={}",
            dir.strip_prefix(PODS).unwrap_or(&dir).display(),
            read("cpu.max"),
            read("memory.max"),
            read("memory.peak"),
            counter(&dir, "memory.events", "oom_kill"),
        );
        report.text("quota", &line);
    }
    Ok(())
}

/// The cgroup of every container of every pod.
fn containers() -> Vec<PathBuf> {
    let below = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    below(PODS.into()).into_iter().flat_map(below).collect()
}

/// Microseconds of the monotonic clock.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000
}

/// Processor time of a cgroup in microseconds.
fn usage(dir: &Path) -> u64 {
    counter(dir, "cpu.stat", "usage_usec")
}

/// A `key value` line of a cgroup's file; 0 when the cgroup is gone.
fn counter(dir: &Path, file: &str, key: &str) -> u64 {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    value.unwrap_or(0)
}

/// The only line of a cgroup's file.
fn one_line(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned()
}
