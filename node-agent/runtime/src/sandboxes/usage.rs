//! What sandboxes and containers use, read from their cgroups when somebody asks. Off the agent's thread: a node full of
//! pods means thousands of small files.
//!
//! Files of writable layers are counted in the background and the last count is told, because a count can take long.

mod disk;
mod interfaces;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use disk::DiskUsage;
pub use interfaces::Interface;

use super::{Container, Sandbox, Sandboxes, Shared};
use crate::cgroup::Cgroup;
use crate::config::NamespaceMode;
use crate::{container, sandbox};

/// A rate is told anew only after this much time: over less it would be noise.
const RATE_OVER: Duration = Duration::from_millis(500);

/// A count of files is repeated after this much time, when somebody asks.
const COUNT_AGAIN: Duration = Duration::from_secs(10);

/// Text files of one cgroup, and what was computed from two looks at it. Whoever shows numbers picks them out of these.
#[derive(Clone, Debug, Default)]
pub struct CgroupUsage {
    files: Vec<(&'static str, String)>,
    /// CPUs in use, in billionths of one; since the look before, or since the start.
    pub nano_cores: u64,
}

/// One container.
#[derive(Clone, Debug)]
pub struct ContainerUsage {
    /// The container.
    pub container: Arc<Container>,
    /// When it was read.
    pub at: Timestamp,
    /// Its cgroup; all empty for one that does not run.
    pub cgroup: CgroupUsage,
    /// Its writable layer, as last counted.
    pub disk: Option<DiskUsage>,
    /// Open files and sockets of its processes.
    pub descriptors: Descriptors,
}

/// One sandbox.
#[derive(Clone, Debug)]
pub struct SandboxUsage {
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    /// When it was read.
    pub at: Timestamp,
    /// The pod's cgroup.
    pub cgroup: CgroupUsage,
    /// Its network interfaces; empty with the node's network.
    pub interfaces: Vec<Interface>,
    /// Its containers that have a process.
    pub containers: Vec<ContainerUsage>,
}

/// What processes hold open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// All.
    pub open: u64,
    /// Of those, sockets.
    pub sockets: u64,
    /// `RLIMIT_NOFILE` (soft) of the first process.
    pub open_limit: u64,
}

/// Files that are read. The order is that of a typical answer.
const FILES: &[&str] = &[
    "cpu.stat",
    "cpu.max",
    "cpu.weight",
    "cpu.pressure",
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.low",
    "memory.stat",
    "memory.events",
    "memory.swap.current",
    "memory.swap.max",
    "memory.pressure",
    "io.stat",
    "io.pressure",
    "pids.current",
    "pids.max",
];

impl CgroupUsage {
    fn read(cgroup: &Cgroup) -> Self {
        let read = |file: &&'static str| (*file, cgroup.text(file));
        let mut files: Vec<_> = FILES.iter().map(read).collect();
        for file in hugetlb_files() {
            files.push((file, cgroup.text(file)));
        }
        Self { files, nano_cores: 0 }
    }

    /// A file of the cgroup, empty when it has none.
    #[must_use]
    pub fn text(&self, file: &str) -> &str {
        self.files.iter().find(|(name, _)| *name == file).map_or("", |(_, text)| text.as_str())
    }

    /// A file that holds one number; `None` for "max" and for a file that is not there.
    #[must_use]
    pub fn number(&self, file: &str) -> Option<u64> {
        self.text(file).trim().parse().ok()
    }

    /// The number of a line `key number`.
    #[must_use]
    pub fn value(&self, file: &str, key: &str) -> Option<u64> {
        crate::cgroup::number_after(self.text(file), key)
    }

    /// Memory that cannot be taken without harm: all but the file pages not used lately.
    #[must_use]
    pub fn working_set(&self) -> u64 {
        let inactive = self.value("memory.stat", "inactive_file").unwrap_or(0);
        self.number("memory.current").unwrap_or(0).saturating_sub(inactive)
    }

    /// Names of files and their text, for those that exist only on some nodes.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.files.iter().map(|(name, text)| (*name, text.as_str()))
    }
}

/// Huge pages: sizes depend on the processor. Those of x86-64 and arm64 with small pages.
fn hugetlb_files() -> &'static [&'static str] {
    &["hugetlb.2MB.current", "hugetlb.2MB.max", "hugetlb.1GB.current", "hugetlb.1GB.max"]
}

/// What was seen before.
#[derive(Default)]
pub(crate) struct Samples {
    cpu: Mutex<HashMap<String, CpuSample>>,
    disk: Mutex<HashMap<String, (Instant, DiskUsage)>>,
    stale: Mutex<BTreeMap<String, PathBuf>>,
    counting: Mutex<()>,
}

#[derive(Clone, Copy)]
struct CpuSample {
    at: Instant,
    usage_usec: u64,
    nano_cores: u64,
}

impl Samples {
    /// A container is gone.
    pub(crate) fn forget(&self, id: &str) {
        self.cpu.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// CPUs in use since the last look that is long enough ago.
    fn nano_cores(&self, id: &str, usage_usec: u64, running_for: Duration) -> u64 {
        let mut samples = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let rate = |used_usec: u64, over: Duration| {
            let over_usec = over.as_micros().max(1);
            let rate = u128::from(used_usec) * 1_000_000_000 / over_usec;
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        let sample = match samples.get(id) {
            Some(before) if now - before.at < RATE_OVER => *before,
            Some(before) => {
                let used = usage_usec.saturating_sub(before.usage_usec);
                CpuSample { at: now, usage_usec, nano_cores: rate(used, now - before.at) }
            }
            None => CpuSample { at: now, usage_usec, nano_cores: rate(usage_usec, running_for) },
        };
        samples.insert(id.to_owned(), sample);
        sample.nano_cores
    }

    /// The last count of a writable layer. Counted now only when there is none; an old one is noted to be counted again.
    fn disk(&self, id: &str, folder: &Path) -> Option<DiskUsage> {
        let before = {
            let counts = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            counts.get(id).copied()
        };
        let Some((at, usage)) = before else { return self.count(id, folder) };
        if at.elapsed() >= COUNT_AGAIN {
            let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
            stale.insert(id.to_owned(), folder.to_owned());
        }
        Some(usage)
    }

    fn count(&self, id: &str, folder: &Path) -> Option<DiskUsage> {
        let usage = disk::count(folder)?;
        let mut counts = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        counts.insert(id.to_owned(), (Instant::now(), usage));
        Some(usage)
    }

    /// Counts again what is old, one after the other. Blocks; only one at a time does it.
    fn count_stale(&self) {
        let Ok(_alone) = self.counting.try_lock() else { return };
        loop {
            let next = {
                let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
                stale.pop_first()
            };
            let Some((id, folder)) = next else { return };
            if self.count(&id, &folder).is_none() {
                self.forget(&id);
            }
        }
    }
}

/// What to read of one container, put together where locks and configs are.
struct Wanted {
    container: Arc<Container>,
    cgroup: Option<Cgroup>,
    layer: PathBuf,
}

impl Sandboxes {
    /// What containers use. Those without a process have zeros. Nothing when the agent ends.
    pub async fn container_usage(
        &self,
        wanted: Vec<(Arc<Sandbox>, Arc<Container>)>,
    ) -> Vec<ContainerUsage> {
        let shared = self.shared.clone();
        let wanted: Vec<Wanted> = wanted.iter().map(|(s, c)| self.wanted(s, c)).collect();
        let read = tokio::task::spawn_blocking(move || {
            wanted.into_iter().map(|wanted| read(&shared, wanted)).collect()
        });
        let read = read.await.unwrap_or_default();
        self.count_in_background();
        read
    }

    fn count_in_background(&self) {
        let shared = self.shared.clone();
        drop(tokio::task::spawn_blocking(move || shared.samples.count_stale()));
    }

    /// What sandboxes use, with their running containers.
    pub async fn sandbox_usage(&self, wanted: Vec<Arc<Sandbox>>) -> Vec<SandboxUsage> {
        let shared = self.shared.clone();
        let wanted: Vec<_> = wanted
            .into_iter()
            .map(|sandbox| {
                let running = sandbox.containers.iter().filter(|c| c.process().is_some());
                let containers: Vec<_> = running.map(|c| self.wanted(&sandbox, c)).collect();
                let cgroup = sandbox::cgroup(&shared.context, &sandbox.id, &sandbox.config);
                (sandbox, cgroup.ok(), containers)
            })
            .collect();
        let read_all = move || {
            let one = |(sandbox, cgroup, containers): (Arc<Sandbox>, Option<Cgroup>, Vec<_>)| {
                let containers: Vec<ContainerUsage> =
                    containers.into_iter().map(|wanted| read(&shared, wanted)).collect();
                let mut usage = cgroup.map(|c| CgroupUsage::read(&c)).unwrap_or_default();
                usage.nano_cores = containers.iter().map(|c| c.cgroup.nano_cores).sum();
                SandboxUsage {
                    at: Timestamp::now(),
                    interfaces: interfaces_of(&sandbox, &containers),
                    cgroup: usage,
                    sandbox,
                    containers,
                }
            };
            wanted.into_iter().map(one).collect()
        };
        let read = tokio::task::spawn_blocking(read_all).await.unwrap_or_default();
        self.count_in_background();
        read
    }

    fn wanted(&self, sandbox: &Sandbox, of: &Arc<Container>) -> Wanted {
        let context = &self.shared.context;
        let cgroup = container::cgroup(context, &sandbox.id, &sandbox.config, &of.id).ok();
        Wanted {
            container: of.clone(),
            cgroup: cgroup.filter(|_| of.process().is_some()),
            layer: container::RunPaths::new(context, &of.id).var.join("upper"),
        }
    }
}

fn read(shared: &Shared, wanted: Wanted) -> ContainerUsage {
    let Wanted { container, cgroup, layer } = wanted;
    let at = Timestamp::now();
    let mut usage = cgroup.as_ref().map(CgroupUsage::read).unwrap_or_default();
    if cgroup.is_some() {
        let used = usage.value("cpu.stat", "usage_usec").unwrap_or(0);
        let since = container.started_at.unwrap_or(container.created_at);
        let running_for = Duration::try_from(at.duration_since(since)).unwrap_or_default();
        usage.nano_cores = shared.samples.nano_cores(&container.id, used, running_for);
    }
    let descriptors = cgroup.as_ref().map(|c| descriptors(c, &container)).unwrap_or_default();
    let disk = shared.samples.disk(&container.id, &layer);
    ContainerUsage { at, cgroup: usage, disk, descriptors, container }
}

/// Counters of the interfaces of a pod, as one of its processes sees them.
fn interfaces_of(sandbox: &Sandbox, containers: &[ContainerUsage]) -> Vec<Interface> {
    if sandbox.config.namespaces.network == NamespaceMode::Node {
        return Vec::new();
    }
    let processes = containers.iter().filter_map(|usage| usage.container.process());
    processes
        .map(|process| interfaces::read(process.pid))
        .find(|i| !i.is_empty())
        .unwrap_or_default()
}

/// Processes of one container whose open files are counted at most.
const PROCESSES_MAX: usize = 256;

fn descriptors(cgroup: &Cgroup, container: &Container) -> Descriptors {
    let mut found = Descriptors::default();
    let processes = cgroup.text("cgroup.procs");
    for pid in processes.lines().take(PROCESSES_MAX) {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            found.open += 1;
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            found.sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    if let Some(process) = container.process() {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid));
        found.open_limit = open_limit(&limits.unwrap_or_default());
    }
    found
}

/// Soft limit of "Max open files" in `/proc/PID/limits`.
fn open_limit(limits: &str) -> u64 {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rate_is_over_the_whole_life_and_soon_after_nothing_changes() {
        let samples = Samples::default();
        let first = samples.nano_cores("a", 500_000, Duration::from_secs(1));
        assert_eq!(first, 500_000_000);
        assert_eq!(samples.nano_cores("a", 900_000, Duration::from_secs(2)), first);
        samples.forget("a");
        assert_eq!(samples.nano_cores("a", 0, Duration::from_secs(1)), 0);
    }

    #[test]
    fn the_working_set_is_never_below_zero() {
        let files = vec![
            ("memory.current", "100\n".to_owned()),
            ("memory.stat", "anon 1\ninactive_file 300\n".to_owned()),
        ];
        assert_eq!(CgroupUsage { files, nano_cores: 0 }.working_set(), 0);
    }

    #[test]
    fn the_soft_limit_of_open_files_is_read() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        assert_eq!(open_limit(text), 1024);
    }
}
