//! Resource use of containers, read from their cgroups at the moment of asking.

use jiff::Timestamp;

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
