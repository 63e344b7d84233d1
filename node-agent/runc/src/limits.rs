//! Resource limits of a container's processes, and how much the kernel likes to kill them for memory.

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit};

use crate::spec::Limit;

/// Resource limits by their names in the OCI spec.
const RESOURCES: &[(&str, Resource)] = &[
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_STACK", Resource::Stack),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
];

/// What new files may not be (umask), when the container says nothing.
pub(crate) const DEFAULT_UMASK: u32 = 0o022;

/// Those of a process, from its spec.
pub(crate) fn of(list: &[Limit]) -> anyhow::Result<Vec<(Resource, Rlimit)>> {
    let one = |limit: &Limit| {
        let known = RESOURCES.iter().find(|(name, _)| *name == limit.kind);
        let (_, resource) = known.with_context(|| format!("unknown limit {}", limit.kind))?;
        // The kernel's "no limit" is the largest number.
        let some = |value: u64| (value != u64::MAX).then_some(value);
        Ok((*resource, Rlimit { current: some(limit.soft), maximum: some(limit.hard) }))
    };
    list.iter().map(one).collect()
}

/// What only the node's root may do: raise hard limits, and lower the badness for the OOM killer. Both are inherited.
pub(crate) fn prepare(
    limits: &[(Resource, Rlimit)],
    oom_score_adj: Option<i32>,
) -> anyhow::Result<()> {
    for (resource, limit) in limits {
        let mut now = rustix::process::getrlimit(*resource);
        if limit.maximum.unwrap_or(u64::MAX) > now.maximum.unwrap_or(u64::MAX) {
            now.maximum = limit.maximum;
            rustix::process::setrlimit(*resource, now).context("raise a limit")?;
        }
    }
    if let Some(value) = oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", value.to_string())
            .context("set the badness for the OOM killer")?;
    }
    Ok(())
}
