//! Suite `bad_input`: hostile images, registries, callers and pods, against a node that has something to lose. Each ends in a clear error, nothing
//! of another pod is touched, and nothing is left behind.

mod archive;
mod bombs;
mod callers;
mod images;
mod nonsense;
mod registry;
mod wire;
mod workloads;

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use self::registry::Hostile;
use super::Context;
use crate::client::Api;
use crate::credentials::Credentials;
use crate::cri::{self, Cri, RELAY_PORT};
use crate::documents;
use crate::leaks::{self, Held};
use crate::machine::{Firmware, Machine};
use crate::registry::Registry;
use crate::report::Report;
use crate::wait;

/// A shell and its applets.
const BUSYBOX: &str = "mirror.test/e2e-test-images/busybox:1.29-2";
/// Where hostile images are said to come from.
const HOSTILE: &str = "hostile.test";
/// What was removed is gone by then.
const GONE_LIMIT: Duration = Duration::from_secs(180);
/// Memory of the node.
const MEMORY_MIB: u32 = 1024;

/// A node under attack.
struct Node<'a> {
    machine: &'a mut Machine,
    cri: Cri,
    api: Api,
}

/// A pod that must not notice anything, and what it was at the beginning.
struct Bystander {
    container: String,
    process: i32,
    started_at: i64,
    agent: i32,
    held: Held,
}

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    let started = async {
        let hostile = Hostile::start()?;
        let registry = Registry::start(&kit.images)?;
        let machine = boot(context, &registry, &hostile).await?;
        anyhow::Ok((hostile, registry, machine))
    };
    let (hostile, _registry, mut machine) = match started.await {
        Ok(started) => started,
        Err(error) => {
            return report.check_alone("a node with a CRI boots", async { Err(error) }).await;
        }
    };
    let mut bystander = None;
    report
        .check("a pod runs that must not notice anything", &mut machine, async |machine| {
            bystander = Some(prepare(machine).await?);
            Ok(())
        })
        .await;
    let Some(bystander) = bystander else { return };
    let clients = async {
        let cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
        anyhow::Ok((cri, machine.api()?))
    };
    let (cri, api) = match clients.await {
        Ok(clients) => clients,
        Err(error) => return report.check_alone("the node answers", async { Err(error) }).await,
    };
    let mut node = Node { machine: &mut machine, cri, api };
    images::silent_registry(&mut node, &hostile, report).await;
    nonsense::run(&mut node, context, report).await;
    callers::run(&mut node, context, report).await;
    workloads::run(&mut node, report).await;
    bombs::run(&mut node, report).await;
    images::run(&mut node, &hostile, report).await;
    images::full_disk(&mut node, &hostile, report).await;
    images::silence_is_over(&mut node, report).await;
    afterwards(&mut node, &bystander, report).await;
}

async fn boot(
    context: &Context,
    registry: &Registry,
    hostile: &Hostile,
) -> anyhow::Result<Machine> {
    let credentials = Rc::new(Credentials::generate()?);
    let machine = documents::machine(&credentials, "bad-input");
    let machine = documents::with_mirror(&machine, &registry.guest_url());
    let hostile = format!(
        "    - registry: \"{HOSTILE}\"\n      endpoints: [\"{}\"]\n      endpointsOnly: true\n",
        hostile.guest_url()
    );
    let config = documents::stream(&[machine + &hostile, documents::relay()]);
    let builder = Machine::builder(&context.artifacts, "bad_input")
        .firmware(Firmware::Direct)
        .forward(RELAY_PORT)
        .memory_mib(MEMORY_MIB)
        .cidata(config)
        .credentials(credentials);
    let mut machine = builder.boot().await?;
    machine.wait_running().await.context("boot a node for the CRI")?;
    Ok(machine)
}

/// Starts the bystander, and lets one pod come and go, so that what is made once is not taken for a leak.
async fn prepare(machine: &mut Machine) -> anyhow::Result<Bystander> {
    let mut cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
    let mut api = machine.api()?;
    cri.pull(BUSYBOX).await?;
    let config = cri::sandbox("bystander");
    let sandbox = cri.run_sandbox(&config).await?;
    let tick = "while :; do date >>/beats; sleep 1; done";
    let main = cri::container("main", BUSYBOX, &["sh", "-c", tick]);
    let container = cri.create(&sandbox, &main, &config).await?;
    cri.start(&container).await?;
    cri.exec(&container, &["true"]).await?;
    let warm_up = cri::sandbox("warm-up");
    let other = cri.run_sandbox(&warm_up).await?;
    let main = cri::container("main", BUSYBOX, &["sleep", "100000"]);
    let id = cri.create(&other, &main, &warm_up).await?;
    cri.start(&id).await?;
    cri.exec(&id, &["true"]).await?;
    cri.remove_sandbox(&other).await?;
    Ok(Bystander {
        process: cri.process_id(&container).await?,
        started_at: cri.status(&container).await?.started_at,
        agent: leaks::agent(&mut api).await?,
        held: Held::count(&mut api).await?,
        container,
    })
}

async fn afterwards(node: &mut Node<'_>, bystander: &Bystander, report: &Report) {
    let Node { machine, cri, .. } = node;
    report
        .check("the agent is the one it was", machine, async |machine| {
            let agent = leaks::agent(&mut machine.api()?).await?;
            ensure!(agent == bystander.agent, "{agent} now, {} before", bystander.agent);
            Ok(())
        })
        .await;
    report
        .check("the other pod did not notice anything", machine, async |_| {
            let status = cri.status(&bystander.container).await?;
            let process = cri.process_id(&bystander.container).await?;
            let is_same = process == bystander.process && status.started_at == bystander.started_at;
            ensure!(is_same, "it is process {process} now: {status:?}");
            let beats = async |cri: &mut Cri| {
                let text = cri.exec(&bystander.container, &["wc", "-l", "/beats"]).await?;
                let number = text.split_whitespace().next().context("no number")?;
                number.parse::<u64>().context("read the beats")
            };
            let before = beats(cri).await?;
            wait::until("its next beat", GONE_LIMIT, async || {
                Ok((beats(cri).await? > before).then_some(()))
            })
            .await
        })
        .await;
    report
        .check("nothing is left behind", machine, async |machine| {
            let (sandboxes, containers) = (cri.sandboxes().await?, cri.containers().await?);
            ensure!(sandboxes.len() == 1, "{} sandboxes: {sandboxes:?}", sandboxes.len());
            ensure!(containers.len() == 1, "{} containers: {containers:?}", containers.len());
            wait::until("nothing to be left", GONE_LIMIT, async || {
                bystander.held.compare(&Held::count(&mut machine.api()?).await?)?;
                Ok(Some(()))
            })
            .await
        })
        .await;
}

/// Removes every sandbox but the bystander's.
async fn remove_others(cri: &mut Cri) -> anyhow::Result<()> {
    for sandbox in cri.sandboxes().await? {
        let is_bystander = sandbox.metadata.as_ref().is_some_and(|it| it.name == "bystander");
        if !is_bystander {
            cri.remove_sandbox(&sandbox.id).await?;
        }
    }
    Ok(())
}
