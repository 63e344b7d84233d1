//! What idle pods cost outside their own processes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::{Target, pods};

/// Allocators and page caches settle.
const SETTLE: Duration = Duration::from_secs(20);
/// The name of the programs that are the pods' own.
const OWN: &str = "workload";

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

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
