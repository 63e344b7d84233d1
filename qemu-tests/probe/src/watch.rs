//! The watcher: polls the services of the plan once each millisecond of guest time, then looks at the idle machine.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::ask::Asker;
use crate::report::Report;
use crate::{clock, look, plan, power_off, quota};

/// Time between two attempts. Small against what is measured, large against what an attempt costs.
const INTERVAL: Duration = Duration::from_millis(1);

/// Guest time after which a service that did not answer is given up.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

/// Runs the plan, reports and powers off.
pub(crate) fn run() -> anyhow::Result<()> {
    let plan = plan::read()?.context("there is no plan")?;
    let askers = plan.services.iter().map(Asker::prepare).collect::<anyhow::Result<Vec<_>>>()?;
    // Pages of this program that are read now are not read while the clock runs.
    let _pages = fs_err::read("/proc/self/exe")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("ready");
    std::io::stdout().flush()?;
    let mut times = String::new();
    std::io::stdin().read_line(&mut times).context("wait for the start")?;

    let mut report = Report::open()?;
    let (started, executed) = times.trim().split_once(' ').context("the start has no time")?;
    report.text("pid1", started);
    report.text("exec", executed);
    for asker in &askers {
        runtime.block_on(wait_for(asker, &mut report))?;
    }
    report.number("ready", clock::tsc());
    look::processes("at_ready", &mut report)?;
    look::disks(&mut report)?;
    if plan.idle_seconds > 0 {
        let idle = Duration::from_secs(plan.idle_seconds);
        runtime.block_on(async { tokio::time::sleep(idle).await });
        look::processes("idle", &mut report)?;
        look::memory(&mut report)?;
    }
    if plan.quota_seconds > 0 {
        runtime.block_on(quota::watch(Duration::from_secs(plan.quota_seconds), &mut report))?;
        look::processes("with_pods", &mut report)?;
    }
    look::kernel_log(&mut report)?;
    if let Some(path) = &plan.apply {
        let config = fs_err::read_to_string(path)?;
        for asker in &askers {
            runtime.block_on(asker.apply(config.clone()))?;
        }
    }
    report.finish();
    power_off();
    Ok(())
}

/// Waits until a service listens and then until it answers; reports both times.
async fn wait_for(asker: &Asker, report: &mut Report) -> anyhow::Result<()> {
    let name = asker.name();
    let start = tokio::time::Instant::now();
    while !asker.listens() {
        if start.elapsed() > READY_TIMEOUT {
            bail!("{name} did not listen within {} s", READY_TIMEOUT.as_secs());
        }
        tokio::time::sleep(INTERVAL).await;
    }
    report.number(&format!("{name}_listens"), clock::tsc());
    loop {
        let Err(error) = asker.ask().await else { break };
        if start.elapsed() > READY_TIMEOUT {
            return Err(error).with_context(|| format!("{name} did not answer in time"));
        }
        tokio::time::sleep(INTERVAL).await;
    }
    report.number(&format!("{name}_answers"), clock::tsc());
    Ok(())
}
