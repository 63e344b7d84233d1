//! Limits.

use ingot_runtime::config::Resources;

use crate::check::{Checked, Invalid, number, text};
use crate::v1;

/// Controllers whose files may be written by name.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "io", "pids", "hugetlb", "rdma", "misc"];

/// Characters of a wrong value that are repeated.
const SHOWN: usize = 100;
/// What the kernel takes for a period of CPU time, in microseconds.
const CPU_PERIOD: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
/// What the kernel takes for the CPU time in a period, in microseconds.
const CPU_QUOTA: std::ops::RangeInclusive<i64> = 1_000..=(1 << 44) - 1;

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
    // Below zero means "no limit".
    within(&at("cpu_quota"), from.cpu_quota, CPU_QUOTA, from.cpu_quota <= 0)?;
    within(&at("cpu_period"), from.cpu_period, CPU_PERIOD, matches!(from.cpu_period, 0 | -1))?;
    for limit in &from.hugepage_limits {
        page_size(&at("hugepage_limits.page_size"), &limit.page_size)?;
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

fn within(
    field: &str,
    value: i64,
    range: std::ops::RangeInclusive<i64>,
    is_unset: bool,
) -> Checked<()> {
    if is_unset || range.contains(&value) {
        return Ok(());
    }
    let (from, to) = range.into_inner();
    Err(Invalid::new(field, format!("{value} is not between {from} and {to} microseconds")))
}

/// `2MB`.
fn page_size(field: &str, value: &str) -> Checked<()> {
    let number = value.strip_suffix('B').and_then(|value| value.strip_suffix(['K', 'M', 'G']));
    if number.is_some_and(|it| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(());
    }
    let value: String = value.chars().take(SHOWN).collect();
    Err(Invalid::new(field, format!("{value:?} is no size of a page; write for example 2MB")))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut v1::LinuxContainerResources)) -> String {
        let mut from = v1::LinuxContainerResources::default();
        change(&mut from);
        resources("r", from).expect_err("nonsense").to_string()
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_with_the_name_of_the_field() {
        assert!(refused(|it| it.cpu_period = i64::MAX).starts_with("r.cpu_period: "));
        assert!(refused(|it| it.cpu_period = 10).starts_with("r.cpu_period: "));
        assert!(refused(|it| it.cpu_quota = 999).starts_with("r.cpu_quota: "));
        assert!(refused(|it| it.cpu_quota = i64::MAX).starts_with("r.cpu_quota: "));
        for page_size in ["../../../../run/ingot", "", "MB", "2"] {
            let limit = v1::HugepageLimit { page_size: page_size.to_owned(), limit: 1 };
            let message = refused(|it| it.hugepage_limits = vec![limit]);
            assert!(message.starts_with("r.hugepage_limits.page_size: "), "{message}");
        }
    }

    #[test]
    fn what_a_kubelet_asks_for_is_taken() {
        let limit = v1::HugepageLimit { page_size: "1GB".to_owned(), limit: 0 };
        for (cpu_period, cpu_quota) in [(0, 0), (100_000, 1_000), (100_000, -1), (-1, 50_000)] {
            let hugepage_limits = vec![limit.clone()];
            let from = v1::LinuxContainerResources {
                cpu_period,
                cpu_quota,
                hugepage_limits,
                ..Default::default()
            };
            resources("r", from).expect("sense");
        }
    }
}
