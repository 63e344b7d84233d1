//! What many pods leave behind when they are gone.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::json;

use crate::{Target, pods};

/// Pods before the first count: what is made once is not a leak.
const WARM: usize = 20;
/// The programs of runtimes.
const RUNTIMES: &[&str] = &["ingotd", "ingot-init", "containerd"];

/// How much more there is after `count` pods came and went, one after the other.
pub(crate) async fn churn(target: Target, count: usize) -> anyhow::Result<serde_json::Value> {
    come_and_go(&target, "warm", WARM).await?;
    let before = held()?;
    come_and_go(&target, "churn", count).await?;
    let after = held()?;
    let more: BTreeMap<String, i64> = after
        .into_iter()
        .map(|(what, now)| {
            let before = before.get(&what).copied().unwrap_or_default();
            (format!("{what}, more after {count} pods"), now - before)
        })
        .collect();
    Ok(json!({"counts": more}))
}

async fn come_and_go(target: &Target, name: &str, count: usize) -> anyhow::Result<()> {
    for number in 0..count {
        let sandbox = pods::start(target.clone(), &format!("{name}-{number}")).await?;
        pods::remove(target, [sandbox].into_iter()).await?;
    }
    Ok(())
}

/// Counted from outside the runtime.
fn held() -> anyhow::Result<BTreeMap<String, i64>> {
    let mut held = BTreeMap::new();
    let mounts = fs_err::read_to_string("/proc/1/mountinfo")?;
    held.insert("mounts".to_owned(), i64::try_from(mounts.lines().count())?);
    let groups = fs_err::read_to_string("/proc/cgroups").unwrap_or_default();
    let pids = groups.lines().find_map(|line| line.strip_prefix("pids\t"));
    if let Some(number) = pids.and_then(|line| line.split_whitespace().nth(1)) {
        held.insert("cgroups".to_owned(), number.parse().context("count cgroups")?);
    }
    let links = fs_err::read_dir("/sys/class/net")?.count();
    held.insert("network links".to_owned(), i64::try_from(links)?);
    for entry in fs_err::read_dir("/proc")? {
        let entry = entry?;
        // Processes come and go while we look.
        let Ok(name) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
        let name = name.trim();
        if !RUNTIMES.contains(&name) {
            continue;
        }
        let descriptors = fs_err::read_dir(entry.path().join("fd"))?.count();
        *held.entry(format!("open files of {name}")).or_default() += i64::try_from(descriptors)?;
        let status = fs_err::read_to_string(entry.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let size = line.and_then(|line| line.split_whitespace().next()).context("no RssAnon")?;
        *held.entry(format!("memory of {name} in KiB")).or_default() += size.parse::<i64>()?;
    }
    Ok(held)
}
