//! Limits of a container or a pod, and what a change of some of them means for the others. Writes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits, in the kernel's own terms. `None` and 0: not given, nothing is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Length of the period of the CPU limit in microseconds.
    pub cpu_period_us: Option<u64>,
    /// CPU time in a period in microseconds; negative: no limit.
    pub cpu_quota_us: Option<i64>,
    /// Relative weight, 1024 for one CPU (cgroup v1 scale, as the CRI has it).
    pub cpu_shares: Option<u64>,
    /// CPUs it may use, as `0-2,7`; empty: all.
    pub cpuset_cpus: String,
    /// Memory nodes it may use; empty: all.
    pub cpuset_mems: String,
    /// `memory.max` in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// `memory.low` in bytes: what is not taken from it while others have more than theirs.
    pub memory_low_bytes: Option<u64>,
    /// Memory and swap together in bytes; equal to the memory limit: no swap.
    pub memory_swap_limit_bytes: Option<i64>,
    /// -1000 to 1000, more is killed earlier.
    pub oom_score_adj: Option<i32>,
    /// `pids.max`.
    pub pids_limit: Option<u64>,
    /// Page size (`2MB`, `1GB`) and bytes.
    pub hugepage_limits: BTreeMap<String, u64>,
    /// cgroup v2 files written as they are, after everything else.
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// What to write for a change: the kernel takes a CPU quota only together with its period, and what is left for swap follows
    /// from two limits. Who changes one half means the other to stay.
    pub(crate) fn whole(&self, change: &Self) -> Self {
        let mut whole = change.clone();
        if change.cpu_quota_us.is_some() || change.cpu_period_us.is_some() {
            whole.cpu_quota_us = change.cpu_quota_us.or(self.cpu_quota_us);
            whole.cpu_period_us = change.cpu_period_us.or(self.cpu_period_us);
        }
        if change.memory_limit_bytes.is_some() || change.memory_swap_limit_bytes.is_some() {
            whole.memory_limit_bytes = change.memory_limit_bytes.or(self.memory_limit_bytes);
            whole.memory_swap_limit_bytes =
                change.memory_swap_limit_bytes.or(self.memory_swap_limit_bytes);
        }
        whole
    }

    /// What holds after a change: what is not given stays as it was.
    pub(crate) fn merged(&self, change: &Self) -> Self {
        let text = |before: &String, change: &String| {
            if change.is_empty() { before.clone() } else { change.clone() }
        };
        let mut merged = Self {
            cpu_period_us: change.cpu_period_us.or(self.cpu_period_us),
            cpu_quota_us: change.cpu_quota_us.or(self.cpu_quota_us),
            cpu_shares: change.cpu_shares.or(self.cpu_shares),
            cpuset_cpus: text(&self.cpuset_cpus, &change.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems, &change.cpuset_mems),
            memory_limit_bytes: change.memory_limit_bytes.or(self.memory_limit_bytes),
            memory_low_bytes: change.memory_low_bytes.or(self.memory_low_bytes),
            memory_swap_limit_bytes: change
                .memory_swap_limit_bytes
                .or(self.memory_swap_limit_bytes),
            // The score of a process that runs is not changed by the CRI.
            oom_score_adj: self.oom_score_adj,
            pids_limit: change.pids_limit.or(self.pids_limit),
            hugepage_limits: self.hugepage_limits.clone(),
            unified: self.unified.clone(),
        };
        merged.hugepage_limits.extend(change.hugepage_limits.clone());
        merged.unified.extend(change.unified.clone());
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_not_given_stays_as_it_was() {
        let before = Resources {
            cpu_quota_us: Some(10),
            memory_limit_bytes: Some(1 << 20),
            ..Resources::default()
        };
        let change = Resources { memory_limit_bytes: Some(2 << 20), ..Resources::default() };
        let after = before.merged(&change);
        assert_eq!(after.cpu_quota_us, Some(10));
        assert_eq!(after.memory_limit_bytes, Some(2 << 20));
    }

    #[test]
    fn who_changes_half_of_a_setting_keeps_the_other_half_and_touches_no_other_setting() {
        let before = Resources {
            cpu_quota_us: Some(20_000),
            cpu_period_us: Some(100_000),
            memory_limit_bytes: Some(64 << 20),
            memory_swap_limit_bytes: Some(96 << 20),
            ..Resources::default()
        };
        let period = Resources { cpu_period_us: Some(50_000), ..Resources::default() };
        let whole = before.whole(&period);
        assert_eq!((whole.cpu_quota_us, whole.cpu_period_us), (Some(20_000), Some(50_000)));
        assert_eq!(whole.memory_limit_bytes, None);
        let memory = Resources { memory_limit_bytes: Some(80 << 20), ..Resources::default() };
        let whole = before.whole(&memory);
        assert_eq!(whole.memory_limit_bytes, Some(80 << 20));
        assert_eq!(whole.memory_swap_limit_bytes, Some(96 << 20));
        assert_eq!(whole.cpu_quota_us, None);
    }
}
