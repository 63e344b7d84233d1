//! Suite `cri_crash`: the agent is killed again and again while a client of the CRI makes and removes containers. Nothing is lost,
//! doubled, leaked or restarted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Context;
use super::density::IMAGE;
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::cri_node;
use crate::faults::Faults;
use crate::leaks::Held;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// How often the agent is killed in a short run and in a full one.
const KILLS: (usize, usize) = (25, 1000);
/// Sandboxes whose containers must never notice.
const STEADY: usize = 3;
/// Longest time between two kills, by the host's clock.
const PAUSE: Duration = Duration::from_millis(2500);
/// An operation that a kill interrupts is tried again for so long, as a kubelet does.
const RETRY_LIMIT: Duration = Duration::from_secs(180);

/// What is known of a container that must stay as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    started_at: i64,
    state: i32,
}

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    let kills = context.many(KILLS);
    let mut faults = context.faults.part("cri_crash");
    report.note(&format!("{kills} kills, seed {}", faults.seed()));
    let (mut machine, _registry) =
        match cri_node::boot(&context.artifacts, &kit.images, "cri_crash", 1024).await {
            Ok(booted) => booted,
            Err(error) => {
                return report.check_alone("a node with a CRI boots", async { Err(error) }).await;
            }
        };
    let mut before = None;
    report
        .check("containers that will be watched start", &mut machine, async |machine| {
            before = Some(prepare(machine).await?);
            Ok(())
        })
        .await;
    let Some((seen, held)) = before else { return };
    let mut rounds = 0;
    report
        .check("containers come and go while the agent is killed", &mut machine, async |machine| {
            rounds = churn_and_kill(machine, &mut faults, kills).await?;
            Ok(())
        })
        .await;
    report.note(&format!("{rounds} containers were made, ran and were removed meanwhile"));
    report
        .check("no watched container was restarted or forgotten", &mut machine, async |machine| {
            ensure!(watched(machine, &seen).await? == seen, "they are not as they were");
            Ok(())
        })
        .await;
    report
        .check("nothing is doubled and nothing is left behind", &mut machine, async |machine| {
            let mut cri = reach(machine).await?;
            let (sandboxes, containers) = (cri.sandboxes().await?, cri.containers().await?);
            ensure!(sandboxes.len() == STEADY, "{} sandboxes: {sandboxes:?}", sandboxes.len());
            ensure!(containers.len() == STEADY, "{} containers: {containers:?}", containers.len());
            wait::until("nothing to be left", RETRY_LIMIT, async || {
                held.compare(&Held::count(&mut machine.api()?).await?)?;
                Ok(Some(()))
            })
            .await
        })
        .await;
}

async fn reach(machine: &Machine) -> anyhow::Result<Cri> {
    Cri::wait_at(machine.forwarded(RELAY_PORT)?).await
}

async fn prepare(machine: &mut Machine) -> anyhow::Result<(BTreeMap<String, Seen>, Held)> {
    let mut cri = reach(machine).await?;
    cri.pull(IMAGE).await?;
    for number in 0..STEADY {
        let config = cri::sandbox(&format!("steady-{number}"));
        let sandbox = cri.run_sandbox(&config).await?;
        let main = cri::container("main", IMAGE, &["/workload", "tick", "500"]);
        let id = cri.create(&sandbox, &main, &config).await?;
        cri.start(&id).await?;
    }
    // One life of everything before counting.
    one_round(machine, usize::MAX).await?;
    let seen = statuses(&mut cri).await?;
    Ok((seen, Held::count(&mut machine.api()?).await?))
}

async fn statuses(cri: &mut Cri) -> anyhow::Result<BTreeMap<String, Seen>> {
    let mut seen = BTreeMap::new();
    for one in cri.containers().await? {
        let status = cri.status(&one.id).await?;
        seen.insert(one.id, Seen { started_at: status.started_at, state: status.state });
    }
    Ok(seen)
}

async fn watched(
    machine: &Machine,
    before: &BTreeMap<String, Seen>,
) -> anyhow::Result<BTreeMap<String, Seen>> {
    let mut now = statuses(&mut reach(machine).await?).await?;
    now.retain(|id, _| before.contains_key(id));
    Ok(now)
}

/// Makes and removes containers until the agent was killed `kills` times, and returns how many.
async fn churn_and_kill(
    machine: &mut Machine,
    faults: &mut Faults,
    kills: usize,
) -> anyhow::Result<usize> {
    let machine = &*machine;
    let done = std::cell::Cell::new(false);
    let killer = async {
        for number in 0..kills {
            tokio::time::sleep(faults.moment(PAUSE)).await;
            cri_node::kill_agent(machine).await.with_context(|| format!("kill {number}"))?;
        }
        done.set(true);
        anyhow::Ok(())
    };
    let client = async {
        let mut rounds = 0;
        while !done.get() {
            one_round(machine, rounds).await.with_context(|| format!("container {rounds}"))?;
            rounds += 1;
        }
        anyhow::Ok(rounds)
    };
    let (killed, rounds) = futures::join!(killer, client);
    killed?;
    rounds
}

/// One sandbox with one container, from nothing to nothing, as a kubelet does it: what fails is asked again, with the same names.
async fn one_round(machine: &Machine, number: usize) -> anyhow::Result<()> {
    let config = cri::sandbox(&format!("round-{number}"));
    let code = number % 100 + 1;
    let main = cri::container("main", IMAGE, &["/workload", "exit", &code.to_string()]);
    let sandbox = again(machine, async |cri| cri.run_sandbox(&config).await).await?;
    let id = again(machine, async |cri| cri.create(&sandbox, &main, &config).await).await?;
    again(machine, async |cri| start_once(cri, &id).await).await?;
    let status = again(machine, async |cri| {
        let status = cri.status(&id).await?;
        let exited = status.state() == v1::ContainerState::ContainerExited;
        ensure!(exited, "it has not exited: {status:?}");
        Ok(status)
    })
    .await?;
    ensure!(status.exit_code == i32::try_from(code)?, "it exited with {status:?}");
    again(machine, async |cri| cri.remove(&id).await).await?;
    again(machine, async |cri| cri.remove_sandbox(&sandbox).await).await
}

/// Starts a container unless an earlier try, whose answer was lost, already did.
async fn start_once(cri: &mut Cri, id: &str) -> anyhow::Result<()> {
    if cri.status(id).await?.state() == v1::ContainerState::ContainerCreated {
        cri.start(id).await?;
    }
    Ok(())
}

async fn again<T>(
    machine: &Machine,
    mut operation: impl AsyncFnMut(&mut Cri) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let port = machine.forwarded(RELAY_PORT)?;
    wait::until("an operation to succeed", RETRY_LIMIT, async || {
        // A new connection each time: the old one died with the agent.
        let mut cri = Cri::at(port)?;
        Ok(Some(operation(&mut cri).await?))
    })
    .await
}
