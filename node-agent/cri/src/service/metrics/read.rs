//! How the series of a metric are read from what is known of a container or a pod. Values are whole numbers, because the
//! protobuf has no others: seconds are cut off.

use ingot_runtime::config::Resources;
use ingot_runtime::sandboxes::usage::{CgroupUsage, ContainerUsage, Interface};
use jiff::Timestamp;

/// Microseconds in a second.
pub(super) const MICRO: u64 = 1_000_000;

/// What is known of a container or a pod.
pub(super) struct Facts<'a> {
    pub(super) cgroup: &'a CgroupUsage,
    pub(super) resources: &'a Resources,
    pub(super) interfaces: &'a [Interface],
    /// `None` for a pod as a whole.
    pub(super) container: Option<&'a ContainerUsage>,
    pub(super) at: Timestamp,
    /// File system of writable layers.
    pub(super) device: &'a str,
}

/// One series.
pub(super) struct Value {
    pub(super) labels: Vec<String>,
    pub(super) value: u64,
}

impl Value {
    pub(super) fn labelled(mut self, label: &str) -> Self {
        self.labels.push(label.to_owned());
        self
    }
}

impl Facts<'_> {
    pub(super) fn stat(&self, file: &str, key: &str) -> u64 {
        self.cgroup.value(file, key).unwrap_or(0)
    }
}

pub(super) fn one(value: u64, labels: &[&str]) -> Vec<Value> {
    vec![Value { labels: labels.iter().map(|label| (*label).to_owned()).collect(), value }]
}

pub(super) fn stat(facts: &Facts<'_>, file: &str, key: &str, per: u64) -> Vec<Value> {
    one(facts.stat(file, key) / per, &[])
}

/// 0 where there is no limit, as cAdvisor has it.
pub(super) fn number(facts: &Facts<'_>, file: &str) -> Vec<Value> {
    one(facts.cgroup.number(file).unwrap_or(0), &[])
}

pub(super) fn of_container(facts: &Facts<'_>, value: fn(&ContainerUsage) -> u64) -> Vec<Value> {
    facts.container.map_or_else(Vec::new, |container| one(value(container), &[]))
}

pub(super) fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or(0)
}

pub(super) fn network(facts: &Facts<'_>, value: fn(&Interface) -> u64) -> Vec<Value> {
    let of = |interface: &Interface| Value {
        labels: vec![interface.name.clone()],
        value: value(interface),
    };
    facts.interfaces.iter().map(of).collect()
}

/// Microseconds of `total=` in a pressure file, as seconds.
pub(super) fn pressure(facts: &Facts<'_>, file: &str, line: &str) -> Vec<Value> {
    let text = facts.cgroup.text(file);
    let line = text.lines().find_map(|text| text.strip_prefix(line)).unwrap_or_default();
    let total = line.split_ascii_whitespace().find_map(|field| field.strip_prefix("total="));
    one(total.and_then(|total| total.parse::<u64>().ok()).unwrap_or(0) / MICRO, &[])
}

/// Quota, if there is one, and period in microseconds.
pub(super) fn cpu_max(facts: &Facts<'_>) -> (Option<u64>, u64) {
    let mut fields = facts.cgroup.text("cpu.max").split_ascii_whitespace();
    let quota = fields.next().and_then(|quota| quota.parse().ok());
    (quota, fields.next().and_then(|period| period.parse().ok()).unwrap_or(100_000))
}

/// Lines of `io.stat`: device, and what is in field `key`.
pub(super) fn devices<'a>(
    facts: &'a Facts<'_>,
    key: &'a str,
) -> impl Iterator<Item = (&'a str, u64)> {
    facts.cgroup.text("io.stat").lines().filter_map(move |line| {
        let (device, fields) = line.split_once(' ')?;
        let mut fields = fields.split_ascii_whitespace();
        let value = fields.find_map(|field| field.strip_prefix(key)?.strip_prefix('='))?;
        Some((device, value.parse().ok()?))
    })
}

pub(super) fn io(facts: &Facts<'_>, key: &str) -> Vec<Value> {
    let of = |(device, value): (&str, u64)| Value { labels: vec![device.to_owned()], value };
    devices(facts, key).map(of).collect()
}

pub(super) fn blkio(facts: &Facts<'_>) -> Vec<Value> {
    let operations = [("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")];
    let of = |(key, operation): (&'static str, &str)| {
        let operation = operation.to_owned();
        let of_device = move |(device, value): (&str, u64)| {
            let (major, minor) = device.split_once(':').unwrap_or((device, ""));
            let labels = [device, major, minor, &operation].map(str::to_owned).to_vec();
            Value { labels, value }
        };
        devices(facts, key).map(of_device).collect::<Vec<_>>()
    };
    operations.into_iter().flat_map(of).collect()
}

pub(super) fn disk(facts: &Facts<'_>) -> Vec<Value> {
    let usage = facts.container.and_then(|container| container.disk);
    usage.map_or_else(Vec::new, |disk| one(disk.bytes, &[facts.device]))
}

pub(super) fn filesystem(facts: &Facts<'_>, value: fn(&rustix::fs::StatVfs) -> u64) -> Vec<Value> {
    if facts.container.is_none() {
        return Vec::new();
    }
    // A file system that does not answer has no numbers.
    rustix::fs::statvfs(facts.device)
        .map_or_else(|_| Vec::new(), |fs| one(value(&fs), &[facts.device]))
}

pub(super) fn hugetlb(facts: &Facts<'_>, end: &str) -> Vec<Value> {
    let of = |(name, text): (&str, &str)| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(end)?;
        let text = text.trim();
        // Without the controller there is no such file.
        (!text.is_empty())
            .then(|| Value { labels: vec![size.to_owned()], value: text.parse().unwrap_or(0) })
    };
    facts.cgroup.files().filter_map(of).collect()
}

pub(super) fn failures(facts: &Facts<'_>) -> Vec<Value> {
    let kinds = [("pgfault", "pgfault"), ("pgmajfault", "pgmajfault")];
    let scopes = ["container", "hierarchy"];
    let of = |(kind, key): (&'static str, &'static str)| {
        let value = facts.stat("memory.stat", key);
        scopes.map(|scope| Value { labels: vec![kind.to_owned(), scope.to_owned()], value })
    };
    kinds.into_iter().flat_map(of).collect()
}
