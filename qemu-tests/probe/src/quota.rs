//! Whether limits hold: what each limited cgroup of pods really used, read from its own files over a fixed time.

use std::collections::BTreeMap;
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

/// How often it is looked for containers with a memory limit: such a container may not live long.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Reports, for each container with a processor limit, the limit and what it used, in microseconds; and for each pod
/// whose container has a memory limit, the limit and the pod's own peak in bytes. The pod's cgroup outlives containers that
/// are killed at their limit, and its peak is that of all of them.
pub(crate) async fn watch(time: Duration, report: &mut Report) -> anyhow::Result<()> {
    let start = tokio::time::Instant::now();
    while containers().is_empty() && start.elapsed() < PODS_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut limits = BTreeMap::new();
    look_for_limits(SETTLE, &mut limits).await;
    let before: Vec<_> = containers().into_iter().map(|dir| (now(), usage(&dir), dir)).collect();
    // Looking costs processor time, which is what is measured now.
    tokio::time::sleep(time).await;
    for (started, used_before, dir) in before {
        let limit = one_line(&dir, "cpu.max").replace(' ', "/");
        if limit.is_empty() || limit.starts_with("max") {
            continue;
        }
        let used = usage(&dir).saturating_sub(used_before);
        let passed = now().saturating_sub(started);
        report.text("quota_cpu", &format!("limit={limit} used={used} passed={passed}"));
    }
    for (pod, limit) in limits {
        let peak = one_line(&pod, "memory.peak");
        let kills = counter(&pod, "memory.events", "oom_kill");
        report.text("quota_memory", &format!("limit={limit} peak={peak} oom_kill={kills}"));
    }
    Ok(())
}

/// Waits, and meanwhile notes the memory limit of every container that shows up, by pod.
async fn look_for_limits(time: Duration, limits: &mut BTreeMap<PathBuf, u64>) {
    let start = tokio::time::Instant::now();
    while start.elapsed() < time {
        for dir in containers() {
            if let (Ok(limit), Some(pod)) = (one_line(&dir, "memory.max").parse(), dir.parent()) {
                limits.insert(pod.to_owned(), limit);
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
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
