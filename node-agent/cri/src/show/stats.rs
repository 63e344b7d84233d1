//! Resource use, as the kubelet's summary wants it.

use ingot_images::Usage;
use ingot_runtime::sandboxes::usage::{CgroupUsage, ContainerUsage, Interface, SandboxUsage};

use super::container::metadata;
use super::{nanoseconds, sandbox};
use crate::v1;

/// One container. `store` says on which file system writable layers are.
pub(crate) fn container_stats(usage: &ContainerUsage, store: &Usage) -> v1::ContainerStats {
    let container = &usage.container;
    let at = nanoseconds(Some(usage.at));
    let cgroup = &usage.cgroup;
    let config = &container.config;
    let disk = usage.disk.map(|disk| v1::FilesystemUsage {
        timestamp: nanoseconds(Some(disk.at)),
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: store.mountpoint.to_string_lossy().into_owned(),
        }),
        used_bytes: number(disk.bytes),
        inodes_used: number(disk.inodes),
    });
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: container.id.clone(),
            metadata: Some(metadata(container)),
            labels: config.labels.clone().into_iter().collect(),
            annotations: config.annotations.clone().into_iter().collect(),
        }),
        cpu: Some(cpu(at, cgroup)),
        memory: Some(memory(at, cgroup)),
        writable_layer: disk,
        swap: Some(swap(at, cgroup)),
        io: Some(io(at, cgroup)),
    }
}

/// One sandbox with its containers.
pub(crate) fn sandbox_stats(usage: &SandboxUsage, store: &Usage) -> v1::PodSandboxStats {
    let config = &usage.sandbox.config;
    let at = nanoseconds(Some(usage.at));
    let mut interfaces = usage.interfaces.iter().map(interface);
    let containers = usage.containers.iter().map(|usage| container_stats(usage, store));
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: usage.sandbox.id.clone(),
            metadata: Some(sandbox::metadata(config)),
            labels: config.labels.clone().into_iter().collect(),
            annotations: config.annotations.clone().into_iter().collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: Some(cpu(at, &usage.cgroup)),
            memory: Some(memory(at, &usage.cgroup)),
            network: Some(v1::NetworkUsage {
                timestamp: at,
                default_interface: interfaces.next(),
                interfaces: interfaces.collect(),
            }),
            process: Some(v1::ProcessUsage {
                timestamp: at,
                process_count: number(usage.cgroup.number("pids.current").unwrap_or(0)),
            }),
            containers: containers.collect(),
            io: Some(io(at, &usage.cgroup)),
        }),
        windows: None,
    }
}

fn number(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn interface(interface: &Interface) -> v1::NetworkInterfaceUsage {
    let [rx_bytes, _, rx_errors, _] = interface.received;
    let [tx_bytes, _, tx_errors, _] = interface.sent;
    v1::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: number(rx_bytes),
        rx_errors: number(rx_errors),
        tx_bytes: number(tx_bytes),
        tx_errors: number(tx_errors),
    }
}

fn cpu(timestamp: i64, cgroup: &CgroupUsage) -> v1::CpuUsage {
    let used = cgroup.value("cpu.stat", "usage_usec").unwrap_or(0);
    v1::CpuUsage {
        timestamp,
        usage_core_nano_seconds: number(used.saturating_mul(1000)),
        usage_nano_cores: number(cgroup.nano_cores),
        psi: psi(cgroup.text("cpu.pressure")),
    }
}

fn memory(timestamp: i64, cgroup: &CgroupUsage) -> v1::MemoryUsage {
    let stat = |key| cgroup.value("memory.stat", key).unwrap_or(0);
    let working_set = cgroup.working_set();
    // Without a limit nobody can say what is available to it.
    let available = cgroup.number("memory.max").map_or(0, |max| max.saturating_sub(working_set));
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: number(working_set),
        available_bytes: number(available),
        usage_bytes: number(cgroup.number("memory.current").unwrap_or(0)),
        rss_bytes: number(stat("anon")),
        page_faults: number(stat("pgfault")),
        major_page_faults: number(stat("pgmajfault")),
        psi: psi(cgroup.text("memory.pressure")),
    }
}

fn swap(timestamp: i64, cgroup: &CgroupUsage) -> v1::SwapUsage {
    let used = cgroup.number("memory.swap.current").unwrap_or(0);
    let available = cgroup.number("memory.swap.max").map_or(0, |max| max.saturating_sub(used));
    v1::SwapUsage {
        timestamp,
        swap_available_bytes: number(available),
        swap_usage_bytes: number(used),
    }
}

fn io(timestamp: i64, cgroup: &CgroupUsage) -> v1::IoUsage {
    v1::IoUsage { timestamp, psi: psi(cgroup.text("io.pressure")) }
}

/// Text of a pressure file; `None` when the kernel does not measure it.
fn psi(text: &str) -> Option<v1::PsiStats> {
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let field = |key: &str| {
            let mut fields = line.split_ascii_whitespace();
            fields.find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
        };
        let average = |key| field(key).and_then(|value| value.parse().ok()).unwrap_or(0.0);
        let total = field("total").and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        Some(v1::PsiData {
            // The kernel counts microseconds.
            total: total.saturating_mul(1000),
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
        })
    };
    let some = line("some ")?;
    Some(v1::PsiStats { full: line("full "), some: Some(some) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_told_in_nanoseconds() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let psi = psi(text).expect("it is there");
        let some = psi.some.expect("it is there");
        assert!((some.avg10 - 1.5).abs() < f64::EPSILON);
        assert_eq!(some.total, 12_000);
        assert_eq!(psi.full.expect("it is there").total, 3_000);
        assert!(super::psi("").is_none());
    }
}
