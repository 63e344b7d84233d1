//! What idle pods cost outside their own processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::{Target, pods};

/// Allocators and page caches settle.
const SETTLE: Duration = Duration::from_secs(20);
/// The name of the programs that are the pods' own.
const OWN: &str = "workload";

/// What the kernel counts of its own memory, and of what only pods' programs have.
const PARTS: &[&str] = &[
    "SUnreclaim",
    "SReclaimable",
    "KernelStack",
    "PageTables",
    "Percpu",
    "VmallocUsed",
    "AnonPages",
    "Shmem",
];

/// Memory with each number of idle pods, in KiB: of all processes but the pods' own, and all that is not available.
pub(crate) async fn idle(target: Target, counts: &[usize]) -> anyhow::Result<serde_json::Value> {
    let mut sandboxes = Vec::new();
    let mut points = Vec::new();
    for count in counts {
        while sandboxes.len() < *count {
            let name = format!("idle-{}", sandboxes.len());
            sandboxes.push(pods::start(target.clone(), &name).await?);
        }
        tokio::time::sleep(SETTLE).await;
        let (others, own) = processes()?;
        points.push(json!({
            "pods": count,
            "processes_kib": others,
            "own_processes_kib": own,
            "used_kib": used()?,
            "charged_kib": charged()?,
            "parts_kib": parts()?,
        }));
    }
    pods::remove(&target, sandboxes.into_iter()).await?;
    Ok(json!({"points": points}))
}

/// Proportional set size of all processes: those that are not the pods' own, and those that are.
fn processes() -> anyhow::Result<(u64, u64)> {
    let (mut others, mut own) = (0, 0);
    // This program and its relatives are not part of what is measured.
    let measuring = BTreeSet::from([std::process::id()]);
    for entry in fs_err::read_dir("/proc")? {
        let entry = entry?;
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // Processes come and go while we look.
        let Ok(name) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
        let Ok(text) = std::fs::read_to_string(entry.path().join("smaps_rollup")) else {
            continue;
        };
        let Some(size) = field(&text, "Pss:") else { continue };
        if measuring.contains(&id) {
            continue;
        }
        if name.trim() == OWN {
            own += size;
        } else {
            others += size;
        }
    }
    Ok((others, own))
}

/// MemTotal - MemAvailable in KiB.
fn used() -> anyhow::Result<u64> {
    let text = fs_err::read_to_string("/proc/meminfo")?;
    let get = |name: &str| field(&text, name).with_context(|| format!("no {name} in meminfo"));
    Ok(get("MemTotal:")?.saturating_sub(get("MemAvailable:")?))
}

/// What is charged to cgroups in KiB, without those of the pods' own processes and without files that can be read again.
fn charged() -> anyhow::Result<u64> {
    // As the first process sees them: this program may be in a namespace of cgroups.
    let root = Path::new("/proc/1/root/sys/fs/cgroup");
    let (mut all, mut own) = (0, 0);
    for cgroup in below(root)? {
        all += charged_to(&cgroup)?;
        own += charged_to_own(&cgroup)?;
    }
    Ok((all - own) / 1024)
}

/// Bytes charged to a cgroup and all below it.
fn charged_to(cgroup: &Path) -> anyhow::Result<u64> {
    let text = fs_err::read_to_string(cgroup.join("memory.stat"))?;
    Ok(["anon ", "kernel ", "shmem "].iter().filter_map(|name| field(&text, name)).sum())
}

/// The bytes of it that are charged to cgroups with pods' own processes.
fn charged_to_own(cgroup: &Path) -> anyhow::Result<u64> {
    let processes = fs_err::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let is_own = |id: &str| {
        std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == OWN)
    };
    if processes.lines().next().is_some() && processes.lines().all(is_own) {
        return charged_to(cgroup);
    }
    below(cgroup)?.iter().map(|cgroup| charged_to_own(cgroup)).sum()
}

/// The cgroups in a cgroup.
fn below(cgroup: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut cgroups = Vec::new();
    for entry in fs_err::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            cgroups.push(entry.path());
        }
    }
    Ok(cgroups)
}

/// Where memory that is not available goes, in KiB: what the kernel counts of itself, and its largest kinds of objects.
fn parts() -> anyhow::Result<BTreeMap<String, u64>> {
    let text = fs_err::read_to_string("/proc/meminfo")?;
    let mut parts: BTreeMap<String, u64> = PARTS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), field(&text, &format!("{name}:"))?)))
        .collect();
    // `name active total size ...`; the file says so itself in its second line.
    for line in fs_err::read_to_string("/proc/slabinfo")?.lines().skip(2) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, _, total, size, ..] = words.as_slice() else { continue };
        let bytes = total.parse::<u64>()?.saturating_mul(size.parse()?);
        parts.insert(format!("objects {name}"), bytes / 1024);
    }
    Ok(parts)
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
