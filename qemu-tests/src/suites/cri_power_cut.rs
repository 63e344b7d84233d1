//! Suite `cri_power_cut`: the power is cut again and again while clients of the CRI make and remove containers. After each boot the node
//! tells of them what it told before, and all of it can be removed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::future::join_all;
use tokio::time::Instant;

use super::Context;
use super::density::IMAGE;
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::cri_node;
use crate::leaks::Held;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// Power cuts in a short run and in a full one.
const CUTS: (usize, usize) = (5, 25);
/// Clients side by side.
const LANES: usize = 2;
/// The power is cut within this time, by the host's clock.
const SPAN: Duration = Duration::from_secs(8);
/// What was told later than this before a cut may be forgotten: the half second that is promised, and as much for a busy host.
const FORGOTTEN: Duration = Duration::from_secs(1);
/// Of so many sandboxes one stays.
const KEPT_OF: i32 = 4;
/// A container that exits at once has exited.
const EXIT_LIMIT: Duration = Duration::from_secs(60);
/// How often it is asked whether it has.
const EXIT_POLL: Duration = Duration::from_millis(50);
/// What is removed is gone by then.
const GONE_LIMIT: Duration = Duration::from_secs(120);
/// What is said of a container whose end nobody saw.
const UNSEEN: i32 = 255;

/// What a node told, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told<T> {
    what: T,
    at: Instant,
}

impl<T> Told<T> {
    fn now(what: T) -> Option<Self> {
        Some(Self { what, at: Instant::now() })
    }
}

/// What was asked for of a sandbox or container, and what was answered.
#[derive(Debug, Clone, Default)]
struct Life {
    made: Option<Told<()>>,
    /// The code it ends with.
    code: i32,
    ended: Option<Told<i32>>,
    /// Whether it was asked to be removed.
    removing: bool,
    removed: Option<Told<()>>,
}

/// What may be seen of a sandbox or container after a cut.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// It must be listed.
    Here,
    /// It must not be.
    Gone,
    /// Nobody was told, or too late.
    Either,
}

impl Life {
    fn expected(&self, cut: Instant) -> Expected {
        let sure = |told: Option<Told<()>>| told.is_some_and(|it| is_old(it.at, cut));
        match () {
            () if sure(self.removed) => Expected::Gone,
            () if !self.removing && sure(self.made) => Expected::Here,
            () => Expected::Either,
        }
    }

    /// Whether it may have ended so.
    fn may_have(&self, code: i32, cut: Instant) -> bool {
        match self.ended {
            Some(ended) if is_old(ended.at, cut) => code == ended.what,
            _ => code == self.code || code == UNSEEN,
        }
    }
}

fn is_old(at: Instant, cut: Instant) -> bool {
    cut.saturating_duration_since(at) > FORGOTTEN
}

/// Sandboxes and containers by id.
#[derive(Debug, Default)]
struct Ledger {
    sandboxes: BTreeMap<String, Life>,
    containers: BTreeMap<String, Life>,
}

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    let cuts = context.many(CUTS);
    let mut faults = context.faults.part("cri_power_cut");
    report.note(&format!("{cuts} cuts, seed {}", faults.seed()));
    let (mut machine, _registry) =
        match cri_node::boot(&context.artifacts, &kit.images, "cri_power_cut", 1024).await {
            Ok(booted) => booted,
            Err(error) => {
                return report.check_alone("a node with a CRI boots", async { Err(error) }).await;
            }
        };
    let mut before = None;
    report
        .check(
            "an image outlives a power cut right after its pull",
            &mut machine,
            async |machine| {
                reach(machine).await?.pull(IMAGE).await?;
                boot_again(machine).await?;
                let mut cri = reach(machine).await?;
                let request =
                    v1::ImageStatusRequest { image: Some(cri::image(IMAGE)), verbose: false };
                let found = cri.image.image_status(request).await?.into_inner();
                ensure!(found.image.is_some(), "the image is gone");
                one_life(&mut cri, &RefCell::default(), "first", 7, true).await?;
                before = Some(Held::count(&mut machine.api()?).await?.without_ids());
                Ok(())
            },
        )
        .await;
    let Some(held) = before else { return };
    let name = format!("after {cuts} power cuts under churn the node tells what it told before");
    let mut totals = [0; 3];
    report
        .check(&name, &mut machine, async |machine| {
            for number in 0..cuts {
                let delay = faults.moment(SPAN);
                let seen = one_cut(machine, number, delay)
                    .await
                    .with_context(|| format!("cut {number}, after {delay:?}"))?;
                totals.iter_mut().zip(seen).for_each(|(total, seen)| *total += seen);
            }
            Ok(())
        })
        .await;
    let [made, kept, unseen] = totals;
    report.note(&format!(
        "{made} containers were made, {kept} were there after a cut, the end of {unseen} nobody had seen"
    ));
    report
        .check("nothing is left behind", &mut machine, async |machine| {
            ensure!(kept > 0, "no cut met a container");
            wait::until("nothing to be left", GONE_LIMIT, async || {
                held.compare(&Held::count(&mut machine.api()?).await?.without_ids())?;
                Ok(Some(()))
            })
            .await
        })
        .await;
}

async fn reach(machine: &Machine) -> anyhow::Result<Cri> {
    Cri::wait_at(machine.forwarded(RELAY_PORT)?).await
}

async fn boot_again(machine: &mut Machine) -> anyhow::Result<()> {
    machine.cut_power()?;
    machine.power_on().await?;
    machine.wait_running().await.map(drop)
}

/// Churn, cut, boot, look, remove. Returns how many containers were made, were found, and had an end nobody saw.
async fn one_cut(
    machine: &mut Machine,
    number: usize,
    delay: Duration,
) -> anyhow::Result<[usize; 3]> {
    let ledger = RefCell::new(Ledger::default());
    let lanes = (0..LANES).map(async |lane| {
        let mut cri = reach(machine).await?;
        for round in 0.. {
            let name = format!("cut-{number}-{lane}-{round}");
            let stays = round % KEPT_OF == 0;
            one_life(&mut cri, &ledger, &name, 1 + round % 100, !stays).await?;
        }
        anyhow::Ok(())
    });
    let ended: Vec<anyhow::Result<()>> = tokio::select! {
        ended = join_all(lanes) => ended,
        () = tokio::time::sleep(delay) => Vec::new(),
    };
    let cut = Instant::now();
    boot_again(machine).await?;
    for ended in ended {
        ended.context("a client was refused before the cut")?;
    }
    let ledger = ledger.into_inner();
    let mut cri = reach(machine).await?;
    let found = look(&mut cri, &ledger, cut).await?;
    for sandbox in cri.sandboxes().await? {
        cri.remove_sandbox(&sandbox.id).await?;
    }
    let left = cri.containers().await?;
    ensure!(left.is_empty(), "containers outlive their sandboxes: {left:?}");
    let unseen = found.iter().filter(|code| **code == UNSEEN).count();
    Ok([ledger.containers.len(), found.len(), unseen])
}

/// Compares what is listed with what was told; the codes of all containers.
async fn look(cri: &mut Cri, ledger: &Ledger, cut: Instant) -> anyhow::Result<Vec<i32>> {
    let sandboxes = cri.sandboxes().await?;
    if let Some(ready) = sandboxes.iter().find(|it| it.state() == v1::PodSandboxState::SandboxReady)
    {
        bail!("a sandbox of before the cut is said to be ready: {ready:?}");
    }
    compare("sandbox", &ledger.sandboxes, sandboxes.into_iter().map(|it| it.id).collect(), cut)?;
    let containers: BTreeSet<String> =
        cri.containers().await?.into_iter().map(|it| it.id).collect();
    compare("container", &ledger.containers, containers.clone(), cut)?;
    let mut codes = Vec::new();
    for id in &containers {
        let status = cri.status(id).await?;
        if status.state() == v1::ContainerState::ContainerCreated {
            continue;
        }
        ensure!(status.state() == v1::ContainerState::ContainerExited, "it runs: {status:?}");
        let life = ledger.containers.get(id);
        let may = life.is_none_or(|life| life.may_have(status.exit_code, cut));
        ensure!(may, "{status:?}, and before the cut: {life:?}");
        codes.push(status.exit_code);
    }
    Ok(codes)
}

fn compare(
    what: &str,
    told: &BTreeMap<String, Life>,
    listed: BTreeSet<String>,
    cut: Instant,
) -> anyhow::Result<()> {
    for (id, life) in told {
        let ago = |it: Option<Told<()>>| it.map(|it| cut.saturating_duration_since(it.at));
        match (life.expected(cut), listed.contains(id)) {
            (Expected::Gone, true) => bail!(
                "{what} {id} is back, whose removal was told {:?} before the cut",
                ago(life.removed)
            ),
            (Expected::Here, false) => {
                bail!("{what} {id} is lost, which was there {:?} before the cut", ago(life.made))
            }
            _ => {}
        }
    }
    Ok(())
}

/// One sandbox with one container, written down as it is told.
async fn one_life(
    cri: &mut Cri,
    ledger: &RefCell<Ledger>,
    name: &str,
    code: i32,
    remove: bool,
) -> anyhow::Result<()> {
    let config = cri::sandbox(name);
    let sandbox = cri.run_sandbox(&config).await?;
    let made = Life { made: Told::now(()), code, ..Life::default() };
    ledger.borrow_mut().sandboxes.insert(sandbox.clone(), made.clone());
    let main = cri::container("main", IMAGE, &["/workload", "exit", &code.to_string()]);
    let id = cri.create(&sandbox, &main, &config).await?;
    let made = Life { made: Told::now(()), ..made };
    ledger.borrow_mut().containers.insert(id.clone(), made);
    cri.start(&id).await?;
    let status = wait::until_every("a container to exit", EXIT_LIMIT, EXIT_POLL, async || {
        let status = cri.status(&id).await?;
        Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
    })
    .await?;
    ensure!(status.exit_code == code, "it exited with {status:?}");
    let container = |change: &dyn Fn(&mut Life)| {
        ledger.borrow_mut().containers.entry(id.clone()).and_modify(change);
    };
    container(&|life| life.ended = Told::now(code));
    if !remove {
        return Ok(());
    }
    let sandbox_life = |change: &dyn Fn(&mut Life)| {
        ledger.borrow_mut().sandboxes.entry(sandbox.clone()).and_modify(change);
    };
    container(&|life| life.removing = true);
    cri.remove(&id).await?;
    container(&|life| life.removed = Told::now(()));
    sandbox_life(&|life| life.removing = true);
    cri.remove_sandbox(&sandbox).await?;
    sandbox_life(&|life| life.removed = Told::now(()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A life whose parts were told so many milliseconds before the cut.
    fn life(cut: Instant, made: u64, ended: Option<u64>, removed: Option<u64>) -> Life {
        let at = |ms| cut.checked_sub(Duration::from_millis(ms)).expect("the clock began earlier");
        Life {
            made: Some(Told { what: (), at: at(made) }),
            code: 3,
            ended: ended.map(|ms| Told { what: 3, at: at(ms) }),
            removing: removed.is_some(),
            removed: removed.map(|ms| Told { what: (), at: at(ms) }),
        }
    }

    #[test]
    fn what_was_told_in_time_is_expected_after_a_cut() {
        let cut = Instant::now() + Duration::from_secs(60);
        assert_eq!(life(cut, 5000, None, None).expected(cut), Expected::Here);
        assert_eq!(life(cut, 50, None, None).expected(cut), Expected::Either);
        assert_eq!(life(cut, 5000, Some(4000), Some(3000)).expected(cut), Expected::Gone);
        assert_eq!(life(cut, 5000, Some(4000), Some(30)).expected(cut), Expected::Either);
        let asked = Life { removed: None, ..life(cut, 5000, Some(4000), Some(30)) };
        assert_eq!(asked.expected(cut), Expected::Either);
    }

    #[test]
    fn a_code_that_was_told_in_time_stays() {
        let cut = Instant::now() + Duration::from_secs(60);
        let told = life(cut, 5000, Some(4000), None);
        assert!(told.may_have(3, cut) && !told.may_have(UNSEEN, cut) && !told.may_have(0, cut));
        let late = life(cut, 5000, Some(40), None);
        assert!(late.may_have(3, cut) && late.may_have(UNSEEN, cut) && !late.may_have(0, cut));
    }
}
