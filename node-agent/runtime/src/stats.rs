//! Resource use of containers, read from their cgroups at the moment of asking.

use std::sync::Arc;

use jiff::Timestamp;

use crate::cgroup::{Cgroup, number_after, pressure_some_avg10};
use crate::context::Context;
use crate::status::{ContainerStatus, PodStatus};

/// Which containers to read.
#[derive(Clone, Debug, Default)]
pub struct StatsFilter {
    /// Empty for all.
    pub namespace: String,
    /// Empty for all.
    pub pod: String,
}

/// Resource use of one container. Limits are 0 when there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStats {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// When it was read.
    pub time: Timestamp,
    /// CPU time in microseconds.
    pub cpu_usage_usec: u64,
    /// Time its tasks were held back by `cpu.max`, in microseconds.
    pub cpu_throttled_usec: u64,
    /// Enforcement periods that passed.
    pub cpu_periods: u64,
    /// Of those, periods in which it was held back.
    pub cpu_throttled_periods: u64,
    /// `cpu.max` in thousandths of a CPU.
    pub cpu_limit_millis: u64,
    /// `memory.current`.
    pub memory_bytes: u64,
    /// `memory.current` less inactive file pages.
    pub memory_working_set_bytes: u64,
    /// `memory.peak`.
    pub memory_peak_bytes: u64,
    /// `memory.max`.
    pub memory_limit_bytes: u64,
    /// Times the kernel killed in it for memory.
    pub oom_kills: u64,
    /// Processes and threads.
    pub pids: u64,
    /// `pids.max`.
    pub pids_limit: u64,
    /// Share of the last 10 s in which some task waited for a CPU, in percent.
    pub cpu_pressure_some_avg10: f64,
    /// The same for memory.
    pub memory_pressure_some_avg10: f64,
    /// The same for I/O.
    pub io_pressure_some_avg10: f64,
}

/// Reads the containers of `pods` that run and match. One that ends meanwhile is left out or has zeros.
pub(crate) fn read(
    context: &Context,
    pods: &[Arc<PodStatus>],
    filter: &StatsFilter,
) -> Vec<ContainerStats> {
    let wanted = |pod: &&Arc<PodStatus>| {
        (filter.namespace.is_empty() || filter.namespace == pod.namespace)
            && (filter.pod.is_empty() || filter.pod == pod.name)
    };
    let mut result = Vec::new();
    for pod in pods.iter().filter(wanted) {
        for container in pod.containers.iter().filter(|c| !c.cgroup.is_empty() && c.pid > 0) {
            result.push(read_one(context, pod, container));
        }
    }
    result
}

fn read_one(context: &Context, pod: &PodStatus, container: &ContainerStatus) -> ContainerStats {
    let cgroup = Cgroup::of_pod(&context.paths().cgroup, &pod.uid).of_container(&container.id);
    read_cgroup(&cgroup, [&pod.namespace, &pod.name, &container.name])
}

/// Reads one container. The names are those of its namespace, its pod and itself.
pub(crate) fn read_cgroup(
    cgroup: &Cgroup,
    [namespace, pod, container]: [&str; 3],
) -> ContainerStats {
    let cpu = cgroup.text("cpu.stat");
    let cpu_number = |key| number_after(&cpu, key).unwrap_or(0);
    let memory_bytes = cgroup.number("memory.current").unwrap_or(0);
    let inactive = cgroup.flag("memory.stat", "inactive_file").unwrap_or(0);
    let pressure = |file| pressure_some_avg10(&cgroup.text(file));
    ContainerStats {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        time: Timestamp::now(),
        cpu_usage_usec: cpu_number("usage_usec"),
        cpu_throttled_usec: cpu_number("throttled_usec"),
        cpu_periods: cpu_number("nr_periods"),
        cpu_throttled_periods: cpu_number("nr_throttled"),
        cpu_limit_millis: cpu_limit_millis(&cgroup.text("cpu.max")),
        memory_bytes,
        memory_working_set_bytes: memory_bytes.saturating_sub(inactive),
        memory_peak_bytes: cgroup.number("memory.peak").unwrap_or(0),
        memory_limit_bytes: cgroup.number("memory.max").unwrap_or(0),
        oom_kills: cgroup.flag("memory.events", "oom_kill").unwrap_or(0),
        pids: cgroup.number("pids.current").unwrap_or(0),
        pids_limit: cgroup.number("pids.max").unwrap_or(0),
        cpu_pressure_some_avg10: pressure("cpu.pressure"),
        memory_pressure_some_avg10: pressure("memory.pressure"),
        io_pressure_some_avg10: pressure("io.pressure"),
    }
}

/// Thousandths of a CPU from the text of `cpu.max`; 0 when there is no limit.
fn cpu_limit_millis(text: &str) -> u64 {
    let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(quota)), Some(Ok(period))) if period > 0 => quota.saturating_mul(1000) / period,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_limit_is_read_back_as_it_was_given() {
        assert_eq!(cpu_limit_millis("25000 100000\n"), 250);
        assert_eq!(cpu_limit_millis("max 100000\n"), 0);
        assert_eq!(cpu_limit_millis(""), 0);
    }
}
