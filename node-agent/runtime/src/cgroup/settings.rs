//! From limits to the files of a cgroup. Pure.

use crate::config::Resources;

use super::CgroupError;

/// What is written to a cgroup: file name and value, in this order.
pub(crate) type Settings = Vec<(String, String)>;

/// Enforcement period of `cpu.max` in microseconds when none is given: the kernel's and Kubernetes' default.
const CPU_PERIOD_USEC: u64 = 100_000;

/// What a cgroup is told about `resources`; what is not given is not written.
///
/// # Errors
/// When a name of a huge page size or of a `unified` file could lead out of the cgroup, or is about processes and not limits.
pub(crate) fn settings(resources: &Resources) -> Result<Settings, CgroupError> {
    let mut settings = Settings::new();
    let mut set = |file: &str, value: String| settings.push((file.to_owned(), value));
    if resources.cpu_quota_us.is_some() || resources.cpu_period_us.is_some() {
        let period = resources.cpu_period_us.unwrap_or(CPU_PERIOD_USEC);
        match resources.cpu_quota_us {
            Some(quota) if quota > 0 => set("cpu.max", format!("{quota} {period}")),
            _ => set("cpu.max", format!("max {period}")),
        }
    }
    if let Some(shares) = resources.cpu_shares {
        set("cpu.weight", cpu_weight(shares).to_string());
    }
    for (file, list) in
        [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)]
    {
        if !list.is_empty() {
            set(file, list.clone());
        }
    }
    if let Some(bytes) = resources.memory_limit_bytes {
        set("memory.max", bytes.to_string());
    }
    if let Some(swap) = swap_max(resources) {
        set("memory.swap.max", swap);
    }
    if let Some(bytes) = resources.memory_low_bytes {
        set("memory.low", bytes.to_string());
    }
    if let Some(limit) = resources.pids_limit {
        set("pids.max", limit.to_string());
    }
    for (size, bytes) in &resources.hugepage_limits {
        let known = size.strip_suffix('B').and_then(|size| size.strip_suffix(['K', 'M', 'G']));
        if !known.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
            return Err(CgroupError::Name { name: size.clone() });
        }
        set(&format!("hugetlb.{size}.max"), bytes.to_string());
        // Pages that are only reserved count, too: else a program learns of its limit by a signal.
        set(&format!("hugetlb.{size}.rsvd.max"), bytes.to_string());
    }
    for (file, value) in &resources.unified {
        if !is_limit(file) {
            return Err(CgroupError::Name { name: file.clone() });
        }
        set(file, value.clone());
    }
    Ok(settings)
}

/// `cpu.weight` (1 to 10000) of a weight on the scale of cgroup v1 (2 to 262144), as the kubelet computes it.
pub(crate) fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// `memory.swap.max`: cgroup v2 counts swap alone, the caller memory and swap together.
fn swap_max(resources: &Resources) -> Option<String> {
    match (resources.memory_swap_limit_bytes, resources.memory_limit_bytes) {
        (Some(..0), _) => Some("max".to_owned()),
        (Some(both), Some(memory)) if both > 0 => {
            Some(both.cast_unsigned().saturating_sub(memory).to_string())
        }
        // A limit that spills into swap is no limit.
        (_, Some(_)) => Some("0".to_owned()),
        (_, None) => None,
    }
}

/// Whether a name is that of a controller's file: `controller.what`. Those of `cgroup.` move and kill processes.
fn is_limit(file: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_');
    file.split_once('.').is_some_and(|(controller, what)| {
        !controller.is_empty() && !what.is_empty() && controller != "cgroup"
    }) && file.bytes().all(safe)
        && !file.contains("..")
}

/// Controllers that `settings` needs in the folder above, besides those that every pod has.
pub(crate) fn more_controllers(settings: &Settings) -> impl Iterator<Item = &str> {
    let controllers = settings.iter().filter_map(|(file, _)| file.split('.').next());
    controllers.filter(|name| !super::CONTROLLERS.contains(name))
}
