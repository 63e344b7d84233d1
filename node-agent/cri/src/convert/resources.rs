//! Limits.

use ingot_runtime::config::Resources;

use crate::check::{Checked, Invalid, number, text};
use crate::v1;

/// Controllers whose files may be written by name.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "io", "pids", "hugetlb", "rdma", "misc"];

/// The limits a caller gives. 0 and empty mean "not given", as the CRI says.
pub(crate) fn resources(field: &str, from: v1::LinuxContainerResources) -> Checked<Resources> {
    let at = |name: &str| format!("{field}.{name}");
    let positive = |name: &str, value: i64| -> Checked<Option<u64>> {
        // -1 means "no limit", which is what not writing anything gives.
        if matches!(value, 0 | -1) { Ok(None) } else { number(&at(name), value).map(Some) }
    };
    if !(-1000..=1000).contains(&from.oom_score_adj) {
        let problem = format!("{} is not between -1000 and 1000", from.oom_score_adj);
        return Err(Invalid::new(at("oom_score_adj"), problem));
    }
    for (file, value) in &from.unified {
        unified(&at("unified"), file, value)?;
    }
    Ok(Resources {
        cpu_period_us: positive("cpu_period", from.cpu_period)?,
        cpu_quota_us: (from.cpu_quota != 0).then_some(from.cpu_quota),
        cpu_shares: positive("cpu_shares", from.cpu_shares)?,
        cpuset_cpus: cpu_list(&at("cpuset_cpus"), from.cpuset_cpus)?,
        cpuset_mems: cpu_list(&at("cpuset_mems"), from.cpuset_mems)?,
        memory_limit_bytes: positive("memory_limit_in_bytes", from.memory_limit_in_bytes)?,
        memory_low_bytes: None,
        memory_swap_limit_bytes: (from.memory_swap_limit_in_bytes != 0)
            .then_some(from.memory_swap_limit_in_bytes),
        oom_score_adj: Some(number(&at("oom_score_adj"), from.oom_score_adj)?),
        pids_limit: None,
        hugepage_limits: from.hugepage_limits.into_iter().map(|h| (h.page_size, h.limit)).collect(),
        unified: from.unified.into_iter().collect(),
    })
}

/// `0-2,7`.
fn cpu_list(field: &str, value: String) -> Checked<String> {
    let value = text(field, value)?;
    if value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b',')) {
        return Ok(value);
    }
    Err(Invalid::new(field, format!("{value:?} is no list of numbers; write for example 0-2,7")))
}

fn unified(field: &str, file: &str, value: &str) -> Checked<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    let controller = file.split('.').next().unwrap_or_default();
    if !file.bytes().all(plain) || file.contains("..") || !CONTROLLERS.contains(&controller) {
        let problem = format!("{file:?} is no file of a cgroup; write for example memory.high");
        return Err(Invalid::new(field, problem));
    }
    text(field, value.to_owned()).map(drop)
}
