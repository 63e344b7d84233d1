//! Pods that want everything: memory without a limit, open files without end, output without end, all files of the disk, all the
//! conversations the node can remember. The node answers meanwhile, and has back what it gave when they are removed.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::{BUSYBOX, GONE_LIMIT, Node};
use crate::client::Api;
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::leaks;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// The test program.
const WORKLOAD: &str = "mirror.test/ingot/test-workload:latest";
/// Containers that take memory, side by side.
const HOGS: usize = 3;
/// What each of them wants in MiB: more than the node has.
const WANTS_MIB: &str = "4000";
/// What a kubelet gives containers that were promised nothing.
const BEST_EFFORT: i64 = 1000;
/// Room for all descriptors that one process may have.
const FILES_MEMORY: i64 = 300 << 20;
/// Lines that are printed as fast as they are taken.
const LINES: u64 = 1_000_000;
/// What the agent may grow by while it writes them down, in KiB.
const GROWTH_KIB: u64 = 16 << 10;
/// All files of a disk are made by then.
const LITTER_LIMIT: Duration = Duration::from_secs(20 * 60);
/// A node that does not answer in this time does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the bombs are: a sandbox, and a container in it that has no part in this.
struct Place {
    config: v1::PodSandboxConfig,
    sandbox: String,
    neighbour: String,
}

/// Runs the checks.
pub(super) async fn run(node: &mut Node<'_>, report: &Report) {
    let (mut cri, mut api) = (node.cri.clone(), node.api.clone());
    let machine = &mut *node.machine;
    let mut place = None;
    report
        .check("a pod for bombs starts", machine, async |_| {
            place = Some(prepare(&mut cri).await?);
            Ok(())
        })
        .await;
    let Some(place) = place else { return };
    report
        .check("pods that take all memory are ended, and no other", machine, async |_| {
            let slowest = memory(&mut cri, &mut api, &place).await?;
            report.note(&format!("{HOGS} memory bombs: the API's slowest answer took {slowest:?}"));
            Ok(())
        })
        .await;
    report
        .check("a pod that opens files without end leaves others theirs", machine, async |_| {
            files(&mut cri, &place).await
        })
        .await;
    report
        .check("a pod that prints without end is written down whole", machine, async |machine| {
            let seen = output(&mut cri, machine, &place).await?;
            report.note(&seen);
            Ok(())
        })
        .await;
    report
        .check("a pod that makes files without end can be removed", machine, async |machine| {
            report.note(&inodes(&mut cri, machine, &place).await?);
            Ok(())
        })
        .await;
    report
        .check("a pod that knocks without end locks nobody out", machine, async |machine| {
            report.note(&conversations(&mut cri, machine, &place).await?);
            Ok(())
        })
        .await;
    report
        .check("the pod for bombs can be removed", machine, async |_| {
            cri.remove_sandbox(&place.sandbox).await
        })
        .await;
}

async fn prepare(cri: &mut Cri) -> anyhow::Result<Place> {
    cri.pull(WORKLOAD).await?;
    let config = cri::sandbox("bombs");
    let sandbox = cri.run_sandbox(&config).await?;
    let mut neighbour = cri::container("neighbour", BUSYBOX, &["sleep", "100000"]);
    neighbour.mounts = vec![v1::Mount {
        host_path: config.log_directory.clone(),
        container_path: "/logs".to_owned(),
        readonly: true,
        ..Default::default()
    }];
    let neighbour = cri.create(&sandbox, &neighbour, &config).await?;
    cri.start(&neighbour).await?;
    Ok(Place { config, sandbox, neighbour })
}

/// A container of the test program.
async fn start(
    cri: &mut Cri,
    place: &Place,
    name: &str,
    command: &[&str],
    memory: i64,
) -> anyhow::Result<String> {
    let mut config = cri::container(name, WORKLOAD, command);
    let linux = config.linux.get_or_insert_default();
    linux.resources = Some(v1::LinuxContainerResources {
        memory_limit_in_bytes: memory,
        oom_score_adj: BEST_EFFORT,
        ..Default::default()
    });
    let id = cri.create(&place.sandbox, &config, &place.config).await?;
    cri.start(&id).await?;
    Ok(id)
}

/// Memory bombs without a limit; how long the API took to answer at most.
async fn memory(cri: &mut Cri, api: &mut Api, place: &Place) -> anyhow::Result<Duration> {
    let mut hogs = Vec::new();
    for number in 0..HOGS {
        let name = format!("hog-{number}");
        hogs.push(start(cri, place, &name, &["/workload", "hog", WANTS_MIB], 0).await?);
    }
    let mut slowest = Duration::ZERO;
    let ended = wait::until("all bombs to be ended", GONE_LIMIT, async || {
        slowest = slowest.max(answer(api).await?);
        let mut ended = Vec::new();
        for id in &hogs {
            ended.push(cri.status(id).await?);
        }
        let all = ended.iter().all(|it| it.state() == v1::ContainerState::ContainerExited);
        Ok(all.then_some(ended))
    })
    .await?;
    let others: Vec<_> = ended.iter().filter(|it| it.reason != "OOMKilled").collect();
    ensure!(others.is_empty(), "they ended otherwise: {others:?}");
    let neighbour = cri.status(&place.neighbour).await?;
    let runs = neighbour.state() == v1::ContainerState::ContainerRunning;
    ensure!(runs, "the neighbour: {neighbour:?}");
    for id in &hogs {
        cri.remove(id).await?;
    }
    ensure!(slowest < PATIENCE, "the API took {slowest:?} to answer");
    Ok(slowest)
}

async fn answer(api: &mut Api) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    tokio::time::timeout(GONE_LIMIT, api.version()).await.context("the API is silent")??;
    Ok(begin.elapsed())
}

/// As many open files as one process may have: more than a kernel allows a whole machine of this size by itself.
async fn files(cri: &mut Cri, place: &Place) -> anyhow::Result<()> {
    let command = ["/workload", "open", "/dev/null"];
    let id = start(cri, place, "files", &command, FILES_MEMORY).await?;
    let said = wait::until("it to be refused another file", GONE_LIMIT, async || {
        let text = cri.exec(&place.neighbour, &["cat", "/logs/files.log"]).await?;
        Ok(text.contains("opened").then_some(text))
    })
    .await?;
    // EMFILE, the limit of the process; ENFILE (23) would be that of the machine.
    ensure!(said.contains("os error 24"), "{said}");
    let passwd = cri.exec(&place.neighbour, &["head", "-n", "1", "/etc/passwd"]).await?;
    ensure!(passwd.starts_with("root:"), "{passwd:?}");
    cri.remove(&id).await
}

/// What was printed as fast as it was taken is in the log; what that cost the agent.
async fn output(cri: &mut Cri, machine: &mut Machine, place: &Place) -> anyhow::Result<String> {
    let mut api = machine.api()?;
    let agent = leaks::agent(&mut api).await?;
    let before = leaks::memory_kib(&mut api, agent).await?;
    let lines = LINES.to_string();
    let id = start(cri, place, "flood", &["/workload", "flood", &lines], 64 << 20).await?;
    let mut slowest = Duration::ZERO;
    let mut most = before;
    let ended = wait::until("it to have printed all", GONE_LIMIT * 3, async || {
        slowest = slowest.max(answer(&mut api).await?);
        most = most.max(leaks::memory_kib(&mut api, agent).await?);
        let status = cri.status(&id).await?;
        Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
    })
    .await?;
    ensure!(ended.exit_code == 0, "{ended:?}");
    let last = "wc -l </logs/flood.log; tail -n 1 /logs/flood.log | cut -d ' ' -f 2-";
    let text = cri.exec(&place.neighbour, &["sh", "-c", last]).await?;
    ensure!(text.trim() == format!("{LINES}\nstdout F line {LINES}"), "{text:?}");
    ensure!(most <= before + GROWTH_KIB, "the agent grew from {before} to {most} KiB");
    ensure!(slowest < PATIENCE, "the API took {slowest:?} to answer");
    cri.remove(&id).await?;
    Ok(format!(
        "{LINES} lines at once: the agent had {before} KiB, at most {most} KiB; the API's slowest answer took {slowest:?}"
    ))
}

/// Every file that the disk has room for. The node cannot make one either, and says so; what made them can be removed all the same.
async fn inodes(cri: &mut Cri, machine: &mut Machine, place: &Place) -> anyhow::Result<String> {
    let mut api = machine.api()?;
    let id = start(cri, place, "litter", &["/workload", "litter", "/litter"], 0).await?;
    let mut slowest = Duration::ZERO;
    let said = wait::until("the disk to have no more files", LITTER_LIMIT, async || {
        slowest = slowest.max(answer(&mut api).await?);
        let text = cri.exec(&place.neighbour, &["tail", "-n", "1", "/logs/litter.log"]).await?;
        Ok(text.contains("littered").then_some(text))
    })
    .await?;
    ensure!(said.contains("os error 28"), "{said}");
    let config = cri::container("too-many", WORKLOAD, &["/workload", "sleep"]);
    let refused = cri.create(&place.sandbox, &config, &place.config).await;
    let told = format!("{:#}", refused.err().context("a container was made without files")?);
    ensure!(told.contains("o space left") || told.contains("is full"), "{told}");
    cri.remove(&id).await?;
    let again = start(cri, place, "room", &["/workload", "sleep"], 64 << 20).await?;
    cri.remove(&again).await?;
    ensure!(slowest < PATIENCE, "the API took {slowest:?} to answer");
    let said = said.trim().rsplit_once(" F ").map_or("", |(_, words)| words);
    Ok(format!("{said}; the API's slowest answer took {slowest:?}; a container then: {told}"))
}

/// As many conversations as the kernel remembers, and more. Whoever comes anew is let in all the same.
async fn conversations(
    cri: &mut Cri,
    machine: &mut Machine,
    place: &Place,
) -> anyhow::Result<String> {
    let mut api = machine.api()?;
    let number = async |api: &mut Api, name: &str| {
        let text = api.read_text(&format!("/proc/sys/net/netfilter/nf_conntrack_{name}")).await?;
        text.trim().parse::<u64>().context("read a number of conntrack")
    };
    let most = number(&mut api, "max").await?;
    let count = (most * 8).to_string();
    let id = start(cri, place, "knock", &["/workload", "knock", &count], 64 << 20).await?;
    let (mut slowest, mut remembered) = (Duration::ZERO, 0);
    wait::until("it to have knocked everywhere", GONE_LIMIT * 3, async || {
        remembered = remembered.max(number(&mut api, "count").await?);
        // New connections each time: those that are open are not what a full table refuses.
        slowest = slowest.max(answer(&mut machine.api()?).await?);
        Cri::at(machine.forwarded(RELAY_PORT)?)?.version().await?;
        let status = cri.status(&id).await?;
        Ok((status.state() == v1::ContainerState::ContainerExited).then_some(()))
    })
    .await?;
    ensure!(remembered * 10 >= most * 9, "only {remembered} of {most} were remembered");
    ensure!(slowest < PATIENCE, "the API took {slowest:?} to answer");
    cri.remove(&id).await?;
    Ok(format!(
        "{count} conversations, {remembered} of at most {most} remembered at once: the API's slowest new connection took {slowest:?}"
    ))
}
