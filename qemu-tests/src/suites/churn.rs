//! Suite `churn`: very many containers, one after the other, as many programs in containers that go on, and as many callers who attach.
//! Afterwards the node is as it was.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::channel::oneshot;
use futures::future::try_join_all;
use futures::{FutureExt as _, StreamExt as _, stream};
use ingot_api::machine::v1 as api;
use tokio::time::timeout;

use super::Context;
use super::density::IMAGE;
use crate::client::Api;
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::cri_node;
use crate::leaks::{self, Held, Memory};
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// Containers in a short run and in a full one.
const CONTAINERS: (usize, usize) = (200, 10_000);
/// Sandboxes they run in, side by side.
const LANES: usize = 4;
/// What the agent may have grown by: what its allocator keeps, not what it holds for containers.
const GROWTH_KIB: u64 = 1024;
/// A container that exits at once has exited.
const EXIT_LIMIT: Duration = Duration::from_secs(120);
/// More events than an agent keeps. A caller is one, so with as many before the count those after it cost no memory.
const EVENTS: usize = 4400;
/// A container that callers attach to says something so often.
const TICK_MS: &str = "20";
/// Ten thousand waits of the usual length would be most of the run.
const EXIT_POLL: Duration = Duration::from_millis(20);

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    let count = context.many(CONTAINERS);
    let (mut machine, _registry) =
        match cri_node::boot(&context.artifacts, &kit.images, "churn", 1024).await {
            Ok(booted) => booted,
            Err(error) => {
                return report.check_alone("a node with a CRI boots", async { Err(error) }).await;
            }
        };
    let mut before = None;
    report
        .check("the first containers come and go", &mut machine, async |machine| {
            containers(machine, LANES * 5).await?;
            programs(machine, LANES * 5).await?;
            callers(machine, count.clamp(LANES * 5, EVENTS)).await?;
            before = Some(count_all(machine).await?);
            Ok(())
        })
        .await;
    let Some((held, memory)) = before else { return };
    let name = format!("{count} containers are created, run, exit with their code and are removed");
    report.check(&name, &mut machine, async |machine| containers(machine, count).await).await;
    let name = format!("{count} programs run in containers that go on and end with their code");
    report.check(&name, &mut machine, async |machine| programs(machine, count).await).await;
    let name = format!("{count} callers attach to containers that go on, hear them and hang up");
    report.check(&name, &mut machine, async |machine| callers(machine, count).await).await;
    report
        .check("mounts, cgroups, files and memory are back", &mut machine, async |machine| {
            let (_, now) = wait::until("nothing to be left", EXIT_LIMIT, async || {
                let now = count_all(machine).await?;
                held.compare(&now.0)?;
                Ok(Some(now))
            })
            .await?;
            report.note(&format!("the agent before: {memory}, after: {now}"));
            let limit = memory.total_kib() + GROWTH_KIB;
            ensure!(now.total_kib() <= limit, "the agent grew from {memory} to {now}");
            Ok(())
        })
        .await;
}

async fn count_all(machine: &Machine) -> anyhow::Result<(Held, Memory)> {
    let mut api = machine.api()?;
    let agent = leaks::agent(&mut api).await?;
    Ok((Held::count(&mut api).await?, leaks::memory(&mut api, agent).await?))
}

/// `count` containers in a few sandboxes that are removed at the end.
async fn containers(machine: &mut Machine, count: usize) -> anyhow::Result<()> {
    let mut cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
    cri.pull(IMAGE).await?;
    let lanes = (0..LANES).map(|lane| one_lane(cri.clone(), lane, count / LANES));
    try_join_all(lanes).await.map(drop)
}

async fn one_lane(mut cri: Cri, lane: usize, count: usize) -> anyhow::Result<()> {
    let config = cri::sandbox(&format!("lane-{lane}"));
    let sandbox = cri.run_sandbox(&config).await?;
    for number in 0..count {
        // Never 0: a made-up success is noticed.
        let code = 1 + number % 100;
        one(&mut cri, &sandbox, &config, code)
            .await
            .with_context(|| format!("container {number} of lane {lane}"))?;
    }
    cri.remove_sandbox(&sandbox).await
}

/// `count` programs in a few containers, each in a sandbox of its own.
async fn programs(machine: &mut Machine, count: usize) -> anyhow::Result<()> {
    let cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
    let lanes = (0..LANES).map(|lane| programs_in_lane(cri.clone(), lane, count / LANES));
    try_join_all(lanes).await.map(drop)
}

async fn programs_in_lane(mut cri: Cri, lane: usize, count: usize) -> anyhow::Result<()> {
    let config = cri::sandbox(&format!("programs-{lane}"));
    let sandbox = cri.run_sandbox(&config).await?;
    let main = cri::container("main", IMAGE, &["/workload", "sleep"]);
    let id = cri.create(&sandbox, &main, &config).await?;
    cri.start(&id).await?;
    for number in 0..count {
        let code = 1 + number % 100;
        let request = v1::ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["/workload", "exit", &code.to_string()].map(str::to_owned).to_vec(),
            timeout: 0,
        };
        let call = cri.runtime.exec_sync(request);
        let answer = cri::answer("ExecSync", EXIT_LIMIT, call).await;
        let ended = answer.with_context(|| format!("program {number} of lane {lane}"))?.exit_code;
        ensure!(ended == i32::try_from(code)?, "it exited with {ended}, not {code}");
    }
    cri.remove_sandbox(&sandbox).await
}

/// `count` callers attach to a few containers, each in a sandbox of its own.
async fn callers(machine: &mut Machine, count: usize) -> anyhow::Result<()> {
    let cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
    let client = machine.api()?;
    let lanes =
        (0..LANES).map(|lane| callers_in_lane(cri.clone(), client.clone(), lane, count / LANES));
    try_join_all(lanes).await.map(drop)
}

async fn callers_in_lane(
    mut cri: Cri,
    mut client: Api,
    lane: usize,
    count: usize,
) -> anyhow::Result<()> {
    let config = cri::sandbox(&format!("callers-{lane}"));
    let sandbox = cri.run_sandbox(&config).await?;
    let main = cri::container("main", IMAGE, &["/workload", "tick", TICK_MS]);
    let id = cri.create(&sandbox, &main, &config).await?;
    cri.start(&id).await?;
    for number in 0..count {
        let heard = timeout(EXIT_LIMIT, hear(&mut client, &id)).await;
        let heard = heard.context("nothing is heard").flatten();
        heard.with_context(|| format!("caller {number} of lane {lane}"))?;
    }
    cri.remove_sandbox(&sandbox).await
}

/// Attaches, waits for a word, and hangs up in the middle of it.
async fn hear(client: &mut Api, container: &str) -> anyhow::Result<()> {
    let start = api::AttachStart {
        container: Some(api::ContainerRef { id: container.to_owned(), ..Default::default() }),
        stdin: false,
    };
    let start = api::AttachRequest { step: Some(api::attach_request::Step::Start(start)) };
    // The caller's side stays open until he hangs up; what holds it longer would hold the whole call.
    let (hang_up, hung_up) = oneshot::channel::<Infallible>();
    let more = hung_up.into_stream().filter_map(|_| std::future::ready(None));
    let mut output = client.rpc.attach(stream::iter([start]).chain(more)).await?.into_inner();
    let _ends_with_this = hang_up;
    while let Some(answer) = output.message().await? {
        if matches!(answer.output, Some(api::attach_response::Output::Stdout(_))) {
            return Ok(());
        }
    }
    bail!("the container is said to have ended")
}

async fn one(
    cri: &mut Cri,
    sandbox: &str,
    config: &v1::PodSandboxConfig,
    code: usize,
) -> anyhow::Result<()> {
    let text = code.to_string();
    let main = cri::container("main", IMAGE, &["/workload", "exit", &text]);
    let id = cri.create(sandbox, &main, config).await?;
    cri.start(&id).await?;
    let status = wait::until_every("a container to exit", EXIT_LIMIT, EXIT_POLL, async || {
        let status = cri.status(&id).await?;
        Ok((status.state() == v1::ContainerState::ContainerExited).then_some(status))
    })
    .await?;
    ensure!(status.exit_code == i32::try_from(code)?, "it exited with {}", status.exit_code);
    cri.remove(&id).await
}
