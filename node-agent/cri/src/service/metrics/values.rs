//! The table of metrics: name, meaning, labels beyond the common ones, and where the number comes from.

use super::read::{
    Facts, MICRO, Value, blkio, cpu_max, disk, failures, filesystem, hugetlb, io, network, number,
    of_container, one, pressure, seconds, stat,
};
use crate::v1::MetricType::{self, Counter, Gauge};

/// Weight of a container that asked for none.
const SHARES_DEFAULT: u64 = 1024;

/// One metric.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) help: &'static str,
    /// Labels beyond the common ones.
    pub(super) labels: &'static [&'static str],
    /// Its series; none where it makes no sense.
    pub(super) read: fn(&Facts<'_>) -> Vec<Value>,
}

/// All 56 that the kubelet passes on, by name.
pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "container_blkio_device_usage_total",
        kind: Counter,
        help: "Blkio device bytes usage",
        labels: &["device", "major", "minor", "operation"],
        read: blkio,
    },
    Metric {
        name: "container_cpu_cfs_periods_total",
        kind: Counter,
        help: "Number of elapsed enforcement period intervals.",
        labels: &[],
        read: |f| stat(f, "cpu.stat", "nr_periods", 1),
    },
    Metric {
        name: "container_cpu_cfs_throttled_periods_total",
        kind: Counter,
        help: "Number of throttled period intervals.",
        labels: &[],
        read: |f| stat(f, "cpu.stat", "nr_throttled", 1),
    },
    Metric {
        name: "container_cpu_cfs_throttled_seconds_total",
        kind: Counter,
        help: "Total time duration the container has been throttled.",
        labels: &[],
        read: |f| stat(f, "cpu.stat", "throttled_usec", MICRO),
    },
    Metric {
        name: "container_cpu_system_seconds_total",
        kind: Counter,
        help: "Cumulative system cpu time consumed in seconds.",
        labels: &[],
        read: |f| stat(f, "cpu.stat", "system_usec", MICRO),
    },
    Metric {
        name: "container_cpu_usage_seconds_total",
        kind: Counter,
        help: "Cumulative cpu time consumed in seconds.",
        labels: &["cpu"],
        read: |f| one(f.stat("cpu.stat", "usage_usec") / MICRO, &["total"]),
    },
    Metric {
        name: "container_cpu_user_seconds_total",
        kind: Counter,
        help: "Cumulative user cpu time consumed in seconds.",
        labels: &[],
        read: |f| stat(f, "cpu.stat", "user_usec", MICRO),
    },
    Metric {
        name: "container_file_descriptors",
        kind: Gauge,
        help: "Number of open file descriptors for the container.",
        labels: &[],
        read: |f| of_container(f, |c| c.descriptors.open),
    },
    Metric {
        name: "container_fs_inodes_free",
        kind: Gauge,
        help: "Number of available Inodes",
        labels: &["device"],
        read: |f| filesystem(f, |fs| fs.f_ffree),
    },
    Metric {
        name: "container_fs_inodes_total",
        kind: Gauge,
        help: "Number of Inodes",
        labels: &["device"],
        read: |f| filesystem(f, |fs| fs.f_files),
    },
    Metric {
        name: "container_fs_limit_bytes",
        kind: Gauge,
        help: "Number of bytes that can be consumed by the container on this filesystem.",
        labels: &["device"],
        read: |f| filesystem(f, |fs| fs.f_blocks * fs.f_frsize),
    },
    Metric {
        name: "container_fs_reads_bytes_total",
        kind: Counter,
        help: "Cumulative count of bytes read",
        labels: &["device"],
        read: |f| io(f, "rbytes"),
    },
    Metric {
        name: "container_fs_reads_total",
        kind: Counter,
        help: "Cumulative count of reads completed",
        labels: &["device"],
        read: |f| io(f, "rios"),
    },
    Metric {
        name: "container_fs_usage_bytes",
        kind: Gauge,
        help: "Number of bytes that are consumed by the container on this filesystem.",
        labels: &["device"],
        read: disk,
    },
    Metric {
        name: "container_fs_writes_bytes_total",
        kind: Counter,
        help: "Cumulative count of bytes written",
        labels: &["device"],
        read: |f| io(f, "wbytes"),
    },
    Metric {
        name: "container_fs_writes_total",
        kind: Counter,
        help: "Cumulative count of writes completed",
        labels: &["device"],
        read: |f| io(f, "wios"),
    },
    Metric {
        name: "container_hugetlb_max_usage_bytes",
        kind: Gauge,
        help: "Maximum hugepage usages recorded",
        labels: &["pagesize"],
        read: |f| hugetlb(f, ".max"),
    },
    Metric {
        name: "container_hugetlb_usage_bytes",
        kind: Gauge,
        help: "Current hugepage usage",
        labels: &["pagesize"],
        read: |f| hugetlb(f, ".current"),
    },
    Metric {
        name: "container_last_seen",
        kind: Gauge,
        help: "Last time a container was seen by the exporter",
        labels: &[],
        read: |f| one(seconds(f.at), &[]),
    },
    Metric {
        name: "container_memory_cache",
        kind: Gauge,
        help: "Number of bytes of page cache memory.",
        labels: &[],
        read: |f| stat(f, "memory.stat", "file", 1),
    },
    Metric {
        name: "container_memory_failcnt",
        kind: Counter,
        help: "Number of memory usage hits limits",
        labels: &[],
        read: |f| stat(f, "memory.events", "max", 1),
    },
    Metric {
        name: "container_memory_failures_total",
        kind: Counter,
        help: "Cumulative count of memory allocation failures.",
        labels: &["failure_type", "scope"],
        read: failures,
    },
    Metric {
        name: "container_memory_kernel_usage",
        kind: Gauge,
        help: "Size of kernel memory allocated in bytes.",
        labels: &[],
        read: |f| stat(f, "memory.stat", "kernel", 1),
    },
    Metric {
        name: "container_memory_mapped_file",
        kind: Gauge,
        help: "Size of memory mapped files in bytes.",
        labels: &[],
        read: |f| stat(f, "memory.stat", "file_mapped", 1),
    },
    Metric {
        name: "container_memory_max_usage_bytes",
        kind: Gauge,
        help: "Maximum memory usage recorded in bytes",
        labels: &[],
        read: |f| number(f, "memory.peak"),
    },
    Metric {
        name: "container_memory_rss",
        kind: Gauge,
        help: "Size of RSS in bytes.",
        labels: &[],
        read: |f| stat(f, "memory.stat", "anon", 1),
    },
    Metric {
        name: "container_memory_swap",
        kind: Gauge,
        help: "Container swap usage in bytes.",
        labels: &[],
        read: |f| number(f, "memory.swap.current"),
    },
    Metric {
        name: "container_memory_usage_bytes",
        kind: Gauge,
        help: "Current memory usage in bytes, including all memory regardless of when it was accessed",
        labels: &[],
        read: |f| number(f, "memory.current"),
    },
    Metric {
        name: "container_memory_working_set_bytes",
        kind: Gauge,
        help: "Current working set in bytes.",
        labels: &[],
        read: |f| one(f.cgroup.working_set(), &[]),
    },
    Metric {
        name: "container_network_receive_bytes_total",
        kind: Counter,
        help: "Cumulative count of bytes received",
        labels: &["interface"],
        read: |f| network(f, |i| i.received[0]),
    },
    Metric {
        name: "container_network_receive_errors_total",
        kind: Counter,
        help: "Cumulative count of errors encountered while receiving",
        labels: &["interface"],
        read: |f| network(f, |i| i.received[2]),
    },
    Metric {
        name: "container_network_receive_packets_dropped_total",
        kind: Counter,
        help: "Cumulative count of packets dropped while receiving",
        labels: &["interface"],
        read: |f| network(f, |i| i.received[3]),
    },
    Metric {
        name: "container_network_receive_packets_total",
        kind: Counter,
        help: "Cumulative count of packets received",
        labels: &["interface"],
        read: |f| network(f, |i| i.received[1]),
    },
    Metric {
        name: "container_network_transmit_bytes_total",
        kind: Counter,
        help: "Cumulative count of bytes transmitted",
        labels: &["interface"],
        read: |f| network(f, |i| i.sent[0]),
    },
    Metric {
        name: "container_network_transmit_errors_total",
        kind: Counter,
        help: "Cumulative count of errors encountered while transmitting",
        labels: &["interface"],
        read: |f| network(f, |i| i.sent[2]),
    },
    Metric {
        name: "container_network_transmit_packets_dropped_total",
        kind: Counter,
        help: "Cumulative count of packets dropped while transmitting",
        labels: &["interface"],
        read: |f| network(f, |i| i.sent[3]),
    },
    Metric {
        name: "container_network_transmit_packets_total",
        kind: Counter,
        help: "Cumulative count of packets transmitted",
        labels: &["interface"],
        read: |f| network(f, |i| i.sent[1]),
    },
    Metric {
        name: "container_oom_events_total",
        kind: Counter,
        help: "Count of out of memory events observed for the container",
        labels: &[],
        read: |f| stat(f, "memory.events", "oom_kill", 1),
    },
    Metric {
        name: "container_pressure_cpu_stalled_seconds_total",
        kind: Counter,
        help: "Total time duration no tasks in the container could make progress due to CPU congestion.",
        labels: &[],
        read: |f| pressure(f, "cpu.pressure", "full "),
    },
    Metric {
        name: "container_pressure_cpu_waiting_seconds_total",
        kind: Counter,
        help: "Total time duration tasks in the container have waited due to CPU congestion.",
        labels: &[],
        read: |f| pressure(f, "cpu.pressure", "some "),
    },
    Metric {
        name: "container_pressure_io_stalled_seconds_total",
        kind: Counter,
        help: "Total time duration no tasks in the container could make progress due to IO congestion.",
        labels: &[],
        read: |f| pressure(f, "io.pressure", "full "),
    },
    Metric {
        name: "container_pressure_io_waiting_seconds_total",
        kind: Counter,
        help: "Total time duration tasks in the container have waited due to IO congestion.",
        labels: &[],
        read: |f| pressure(f, "io.pressure", "some "),
    },
    Metric {
        name: "container_pressure_memory_stalled_seconds_total",
        kind: Counter,
        help: "Total time duration no tasks in the container could make progress due to memory congestion.",
        labels: &[],
        read: |f| pressure(f, "memory.pressure", "full "),
    },
    Metric {
        name: "container_pressure_memory_waiting_seconds_total",
        kind: Counter,
        help: "Total time duration tasks in the container have waited due to memory congestion.",
        labels: &[],
        read: |f| pressure(f, "memory.pressure", "some "),
    },
    Metric {
        name: "container_processes",
        kind: Gauge,
        help: "Number of processes running inside the container.",
        labels: &[],
        read: |f| number(f, "pids.current"),
    },
    Metric {
        name: "container_sockets",
        kind: Gauge,
        help: "Number of open sockets for the container.",
        labels: &[],
        read: |f| of_container(f, |c| c.descriptors.sockets),
    },
    Metric {
        name: "container_spec_cpu_period",
        kind: Gauge,
        help: "CPU period of the container.",
        labels: &[],
        read: |f| one(cpu_max(f).1, &[]),
    },
    Metric {
        name: "container_spec_cpu_quota",
        kind: Gauge,
        help: "CPU quota of the container.",
        labels: &[],
        read: |f| {
            cpu_max(f)
                .0
                .map(|quota| Value { labels: Vec::new(), value: quota })
                .into_iter()
                .collect()
        },
    },
    Metric {
        name: "container_spec_cpu_shares",
        kind: Gauge,
        help: "CPU share of the container.",
        labels: &[],
        read: |f| one(f.resources.cpu_shares.unwrap_or(SHARES_DEFAULT), &[]),
    },
    Metric {
        name: "container_spec_memory_limit_bytes",
        kind: Gauge,
        help: "Memory limit for the container.",
        labels: &[],
        read: |f| number(f, "memory.max"),
    },
    Metric {
        name: "container_spec_memory_reservation_limit_bytes",
        kind: Gauge,
        help: "Memory reservation limit for the container.",
        labels: &[],
        read: |f| number(f, "memory.low"),
    },
    Metric {
        name: "container_spec_memory_swap_limit_bytes",
        kind: Gauge,
        help: "Memory swap limit for the container.",
        labels: &[],
        read: |f| number(f, "memory.swap.max"),
    },
    Metric {
        name: "container_start_time_seconds",
        kind: Gauge,
        help: "Start time of the container since unix epoch in seconds.",
        labels: &[],
        read: |f| {
            of_container(f, |c| seconds(c.container.started_at.unwrap_or(c.container.created_at)))
        },
    },
    Metric {
        name: "container_threads",
        kind: Gauge,
        help: "Number of threads running inside the container",
        labels: &[],
        read: |f| number(f, "pids.current"),
    },
    Metric {
        name: "container_threads_max",
        kind: Gauge,
        help: "Maximum number of threads allowed inside the container, infinity if value is zero",
        labels: &[],
        read: |f| number(f, "pids.max"),
    },
    Metric {
        name: "container_ulimits_soft",
        kind: Gauge,
        help: "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice",
        labels: &["ulimit"],
        read: |f| {
            of_container(f, |c| c.descriptors.open_limit)
                .into_iter()
                .map(|v| v.labelled("max_open_files"))
                .collect()
        },
    },
];
