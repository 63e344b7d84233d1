//! Whether limits hold: pods with processor limits spin and pods with memory limits allocate for as long as they can,
//! while the probe reads their cgroups. Everything goes through the YAML of a pod.

use anyhow::{Context as _, bail};
use ingot_qemu_tests::documents::{Pod, stream};

use super::Bench;
use super::guest::Clock;
use super::ingot::Ingot;
use super::report::Report;
use super::table::Table;

/// Processor limits in thousandths of a processor. Their sum leaves room on one processor, or a pod would get less than
/// its limit for lack of time.
const CPU_MILLIS: [u32; 5] = [50, 100, 150, 250, 350];

/// Memory limit of the pods that allocate.
const MEMORY: &str = "32Mi";

/// Seconds of guest time over which use is measured.
const SECONDS: u32 = 20;

/// Largest error of a processor limit, in percent of the limit.
const CPU_ERROR_PERCENT_MAX: f64 = 2.0;

/// Processes of the node itself, and the process of each pod's container.
const OURS: [&str; 2] = ["ingot-init", "ingotd"];
const WORKLOAD: &str = "workload";

/// Boots one node with all the pods.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Table>> {
    let mut pods: Vec<_> = CPU_MILLIS
        .iter()
        .map(|millis| {
            Pod::new(&format!("spin-{millis}"), &["spin"]).cpu(&format!("{millis}m")).document()
        })
        .collect();
    pods.push(Pod::new("allocate", &["hog", "256"]).memory(MEMORY).document());
    let documents = format!("---\n{}", stream(&pods));
    let plan = format!("quota {SECONDS}\n");
    let ingot = Ingot::build(bench, "demo", &plan, &documents)?;
    let first = ingot.first_boot(bench)?;
    let report = first.run(Clock::Skipping, &bench.tools, &bench.directory)?;
    Ok(vec![table(&report)?])
}

/// One row for each limit.
fn table(report: &Report) -> anyhow::Result<Table> {
    let mut table =
        Table::new("Limits of pods, measured from their cgroups over 20 s of guest time");
    let (mut limited, mut bounded) = (0, 0);
    for line in report.texts("quota_cpu") {
        let limit = word(line, "limit").and_then(share).context("a processor limit is no share")?;
        let used = number(line, "used")? / number(line, "passed")?;
        let error = (used / limit - 1.0) * 100.0;
        let what = format!("{:.0}m: used {:.2}m, error", limit * 1000.0, used * 1000.0);
        table.add(&what, &[error.abs()], "%");
        table.at_most(CPU_ERROR_PERCENT_MAX, "Q1");
        limited += 1;
    }
    for line in report.texts("quota_memory") {
        let over = (number(line, "peak")? - number(line, "limit")?).max(0.0);
        let kills = number(line, "oom_kill")?;
        table.add(&format!("memory over the limit, {kills} times OOM-killed"), &[over], "B");
        table.at_most(0.0, "Q2");
        bounded += 1;
    }
    let extra = report
        .processes("with_pods")
        .into_iter()
        .filter(|process| !OURS.contains(&process.name.as_str()) && process.name != WORKLOAD);
    let extra: Vec<_> = extra.map(|process| process.name).collect();
    let count = u32::try_from(extra.len()).map_or(f64::NAN, f64::from);
    table.add("extra processes for the running pods", &[count], "");
    table.at_most(0.0, "no shim");
    table.notes.extend(extra.iter().map(|name| format!("extra process: {name}")));
    if limited < CPU_MILLIS.len() || bounded == 0 {
        bail!(
            "only {limited} containers with a processor limit and {bounded} with a memory limit ran"
        );
    }
    Ok(table)
}

/// The value of a `key=value` word.
fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// The value of a `key=number` word.
fn number(line: &str, key: &str) -> anyhow::Result<f64> {
    let text = word(line, key).with_context(|| format!("`{line}` has no {key}"))?;
    text.parse().with_context(|| format!("`{key}={text}` is no number"))
}

/// `quota/period` as a share of one processor; `None` for `max`.
fn share(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once('/')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_read_as_a_share() {
        assert_eq!(share("25000/100000"), Some(0.25));
        assert_eq!(share("max/100000"), None);
    }

    #[test]
    fn a_limit_that_does_not_hold_is_seen() {
        let line = |millis: u32, used: u32| {
            format!("quota_cpu limit={}/100000 used={used} passed=1000000\n", millis * 100)
        };
        let mut text: String =
            CPU_MILLIS.iter().skip(1).map(|millis| line(*millis, millis * 1000)).collect();
        text.push_str(&line(50, 60_000));
        text.push_str("quota_memory limit=100 peak=101 oom_kill=1\nend 0\n");
        let table = table(&Report::parse(&text).expect("a whole report")).expect("all pods ran");
        let missed: Vec<_> = table.rows.iter().filter(|row| row.met == Some(false)).collect();
        assert_eq!(missed.len(), 2, "{table}");
    }
}
