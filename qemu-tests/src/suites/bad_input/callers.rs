//! Callers of the CRI who ask the same again and again, give up at any moment, and hang up.

use std::time::Duration;

use anyhow::ensure;
use futures::future::{join_all, try_join_all};

use super::{BUSYBOX, Context, Node, remove_others};
use crate::cri::{self, Cri, RELAY_PORT};
use crate::faults::Faults;
use crate::report::Report;

/// Callers who ask the same at the same time.
const AT_ONCE: usize = 6;
/// Lives of a container during which a caller gives up, in a short run and in a full one.
const ROUNDS: (usize, usize) = (12, 150);
/// A caller gives up within this time.
const PATIENCE: Duration = Duration::from_millis(800);

/// Runs the checks.
pub(super) async fn run(node: &mut Node<'_>, context: &Context, report: &Report) {
    report
        .check("the same asked many times at once is done once", node.machine, async |_| {
            together(&node.cri).await
        })
        .await;
    let rounds = if context.full { ROUNDS.1 } else { ROUNDS.0 };
    let mut faults = context.faults.part("bad_input_callers");
    report.note(&format!("{rounds} lives with a caller who gives up, seed {}", faults.seed()));
    report
        .check("who gives up and hangs up at any moment can ask again", node.machine, async |m| {
            let port = m.forwarded(RELAY_PORT)?;
            for number in 0..rounds {
                one_life(port, &node.cri, &mut faults, number).await?;
            }
            remove_others(&mut node.cri.clone()).await
        })
        .await;
}

async fn together(cri: &Cri) -> anyhow::Result<()> {
    let config = cri::sandbox("together");
    let sandboxes = (0..AT_ONCE).map(|_| {
        let (mut cri, config) = (cri.clone(), config.clone());
        async move { cri.run_sandbox(&config).await }
    });
    let sandboxes = try_join_all(sandboxes).await?;
    ensure!(sandboxes.iter().all(|id| *id == sandboxes[0]), "not one sandbox: {sandboxes:?}");
    let main = cri::container("main", BUSYBOX, &["sleep", "100000"]);
    let containers = (0..AT_ONCE).map(|_| {
        let (mut cri, config, main) = (cri.clone(), config.clone(), main.clone());
        let sandbox = sandboxes[0].clone();
        async move { cri.create(&sandbox, &main, &config).await }
    });
    let containers = try_join_all(containers).await?;
    ensure!(containers.iter().all(|id| *id == containers[0]), "not one: {containers:?}");
    let id = &containers[0];
    let starts = join_all((0..AT_ONCE).map(|_| {
        let mut cri = cri.clone();
        async move { cri.start(id).await }
    }));
    let started = starts.await;
    ensure!(started.iter().any(Result::is_ok), "none started it: {started:?}");
    let stops = (0..AT_ONCE).map(|_| {
        let mut cri = cri.clone();
        async move { cri.stop(id, 1).await }
    });
    try_join_all(stops).await?;
    let removals = (0..AT_ONCE).map(|_| {
        let (mut cri, sandbox) = (cri.clone(), &sandboxes[0]);
        async move {
            cri.remove(id).await?;
            cri.remove_sandbox(sandbox).await
        }
    });
    try_join_all(removals).await.map(drop)
}

/// Each step is begun by a caller who gives up and hangs up, and then done by one who does not.
async fn one_life(port: u16, cri: &Cri, faults: &mut Faults, number: usize) -> anyhow::Result<()> {
    let mut cri = cri.clone();
    let config = cri::sandbox(&format!("gives-up-{number}"));
    let main = cri::container("main", BUSYBOX, &["sleep", "100000"]);
    give_up(port, faults, async |mut cri| cri.run_sandbox(&config).await.map(drop)).await?;
    let sandbox = cri.run_sandbox(&config).await?;
    give_up(port, faults, async |mut cri| cri.create(&sandbox, &main, &config).await.map(drop))
        .await?;
    let id = cri.create(&sandbox, &main, &config).await?;
    give_up(port, faults, async |mut cri| cri.start(&id).await).await?;
    if let Err(error) = cri.start(&id).await {
        // The caller who went away had it started.
        let state = cri.status(&id).await?.state;
        let running = cri::v1::ContainerState::ContainerRunning as i32;
        ensure!(state == running, "it is {state}, and cannot be started: {error:#}");
    }
    give_up(port, faults, async |mut cri| cri.exec(&id, &["sleep", "1"]).await.map(drop)).await?;
    ensure!(cri.exec(&id, &["echo", "here"]).await?.trim() == "here", "exec is deaf");
    give_up(port, faults, async |mut cri| cri.stop(&id, 1).await).await?;
    cri.stop(&id, 1).await?;
    give_up(port, faults, async |mut cri| cri.remove(&id).await).await?;
    cri.remove(&id).await?;
    give_up(port, faults, async |mut cri| cri.remove_sandbox(&sandbox).await).await?;
    cri.remove_sandbox(&sandbox).await
}

/// On a connection of its own, which is closed in the middle.
async fn give_up(
    port: u16,
    faults: &mut Faults,
    work: impl AsyncFnOnce(Cri) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cri = Cri::at(port)?;
    // Done, failed or given up: whoever asks next finds out.
    let _ = tokio::time::timeout(faults.moment(PATIENCE), work(cri)).await;
    Ok(())
}
