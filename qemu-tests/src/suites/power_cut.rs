//! Suite `power_cut`: QEMU is killed at random moments of the first boot and of applying a config. The node boots again each
//! time, with the old or the new config, never with neither.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::{Context, apply};
use crate::credentials::Credentials;
use crate::documents;
use crate::machine::{Firmware, Machine};
use crate::report::Report;

/// Moments of the first boot at which the power is cut, and the same again while a config is applied.
const CUTS: usize = 25;
/// Applying is done by then, in emulation on a busy host.
const APPLY_SPAN: Duration = Duration::from_millis(1500);

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    report.note(&format!(
        "{CUTS} cuts of the first boot and {CUTS} of an apply, seed {}",
        context.faults.seed()
    ));
    // Side by side: a booting machine waits more than it computes.
    futures::join!(first_boot(context, report), applying(context, report));
}

fn name_of(index: usize) -> String {
    format!("cut-{index}")
}

fn new_machine(context: &Context, credentials: &Rc<Credentials>) -> anyhow::Result<Machine> {
    Machine::builder(&context.artifacts, "power_cut")
        .firmware(Firmware::Direct)
        .processors(1)
        .cidata(documents::machine(credentials, &name_of(0)))
        .credentials(Rc::clone(credentials))
        .build()
}

/// A fresh disk for each cut.
async fn first_boot(context: &Context, report: &Report) {
    let mut faults = context.faults.part("first_boot");
    let mut span = None;
    let whole = async {
        let credentials = Rc::new(Credentials::generate()?);
        let mut machine = new_machine(context, &credentials)?;
        let begin = Instant::now();
        machine.power_on().await?;
        machine.wait_running().await?;
        span = Some(begin.elapsed());
        Ok(credentials)
    };
    let credentials = match whole.await {
        Ok(credentials) => credentials,
        Err(error) => {
            return report.check_alone("an undisturbed first boot", async { Err(error) }).await;
        }
    };
    let Some(span) = span else { return };
    report.note(&format!("an undisturbed first boot takes {span:.1?}"));
    let name = format!("power cut at {CUTS} moments of the first boot: it boots again each time");
    let all = async {
        for _ in 0..CUTS {
            let delay = faults.moment(span);
            let mut machine = new_machine(context, &credentials)?;
            let result = cut_first_boot(&mut machine, delay).await;
            kept(&mut machine, &name, result)
                .await
                .with_context(|| format!("cut after {delay:?}"))?;
        }
        Ok(())
    };
    report.check_alone(&name, all).await;
}

async fn cut_first_boot(machine: &mut Machine, delay: Duration) -> anyhow::Result<()> {
    machine.power_on().await?;
    tokio::time::sleep(delay).await;
    machine.cut_power()?;
    machine.power_on().await?;
    let mut api = machine.wait_running().await?;
    let name = api.status().await?.node_name;
    ensure!(name == name_of(0), "the node is called {name}");
    let volumes = api.status().await?.volumes;
    ensure!(volumes.iter().any(|volume| volume.name == "VAR"), "there is no VAR: {volumes:?}");
    Ok(())
}

/// One disk for all cuts: the config that survived is the old one of the next.
async fn applying(context: &Context, report: &Report) {
    let mut faults = context.faults.part("applying");
    let name = format!(
        "power cut at {CUTS} moments of an apply: the old or the new config, never neither"
    );
    let mut outcomes = (0, 0);
    let all = async {
        let credentials = Rc::new(Credentials::generate()?);
        let mut machine = new_machine(context, &credentials)?;
        machine.power_on().await?;
        machine.wait_running().await?;
        machine.cut_power()?;
        // From here on STATE is the only source.
        machine.detach_cidata();
        let mut current = name_of(0);
        for index in 1..=CUTS {
            let delay = faults.moment(APPLY_SPAN);
            let result = cut_apply(&mut machine, &current, &name_of(index), delay).await;
            let found = kept(&mut machine, &name, result)
                .await
                .with_context(|| format!("cut {index}, after {delay:?}"))?;
            match found == current {
                true => outcomes.0 += 1,
                false => outcomes.1 += 1,
            }
            current = found;
        }
        Ok(())
    };
    report.check_alone(&name, all).await;
    report.note(&format!("{} times the old config, {} times the new one", outcomes.0, outcomes.1));
}

/// Boots, applies a config that renames the node, cuts the power, boots, and returns the name found. The machine is off
/// again after it.
async fn cut_apply(
    machine: &mut Machine,
    old: &str,
    new: &str,
    delay: Duration,
) -> anyhow::Result<String> {
    machine.power_on().await?;
    let mut api = machine.wait_running().await?;
    let config = documents::machine(machine.credentials(), new);
    let mut acknowledged = false;
    let cut = tokio::time::sleep(delay);
    tokio::pin!(cut);
    tokio::select! {
        // Both arms may be dropped at any point: the machine is about to lose power anyway.
        answer = apply(&mut api, &config) => acknowledged = answer.is_ok(),
        () = &mut cut => {}
    }
    if acknowledged {
        // What comes after the answer is part of applying, too.
        cut.await;
    }
    machine.cut_power()?;
    machine.power_on().await?;
    let mut api = machine.wait_running().await?;
    let name = api.status().await?.node_name;
    ensure!(name == old || name == new, "the node is called {name}, not {old} or {new}");
    ensure!(!acknowledged || name == new, "the node said it keeps {new}, and has {name}");
    machine.cut_power()?;
    Ok(name)
}

/// Keeps the evidence of a failure.
async fn kept<T>(
    machine: &mut Machine,
    test: &str,
    result: anyhow::Result<T>,
) -> anyhow::Result<T> {
    if let Err(error) = &result {
        let folder = machine.keep_evidence(test, &format!("{error:?}")).await?;
        println!("        evidence: {}", folder.display());
    }
    result
}
