//! Suite `critest`: the Kubernetes project's conformance tests of container runtimes pass against the node, run on the node itself.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::{Context, CriKit};
use crate::cri::{Cri, RELAY_PORT};
use crate::cri_node::{self, SOCKET};
use crate::critest::{Outcome, Runner, Shard, Spec, by_group};
use crate::faults::Faults;
use crate::machine::Machine;
use crate::report::Report;

/// Bound for one shard: only there so that a hung runtime ends the test.
const SHARD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Specs that cannot pass with images made here, and why. A regular expression of critest's, and the reason.
const SKIPPED: &[(&str, &str)] = &[(
    "public image with digest should be pulled and removed",
    "names the digest of an image on the internet; no other bytes have it",
)];

/// Files of critest's source in the order they are run; each lane is one critest, and both run side by side.
const LANES: [&[&str]; 2] = [
    &["security_context_linux.go", "container_linux.go", "apparmor_linux.go", "runtime_info.go"],
    &[
        "container.go",
        "idempotence.go",
        "image.go",
        "image_consistency.go",
        "image_id_consistency.go",
        "multi_container_linux.go",
        "networking.go",
        "pod.go",
        "pod_linux.go",
        "streaming.go",
        "streaming_linux.go",
    ],
];

/// Specs whose connections can be WebSockets, and what critest is told for that.
const STREAMS: &[&str] = &["streaming.go", "streaming_linux.go"];
const WEB_SOCKETS: &str = "-websocket-exec -websocket-attach -websocket-portforward";

/// With the agent killed now and then, a stream may break: then a spec may be begun so often. No client can go on with a stream.
const ATTEMPTS: &str = "-ginkgo.flake-attempts=12";
/// Time between an agent's coming back and the next kill, by the host's clock.
const KILL_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(8));

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    if !kit.has_cri_tools {
        return report.skip("critest against a node", "there is no critest; see the last lines");
    }
    let boot = cri_node::boot(&context.artifacts, &kit.images, "critest", 1536);
    match boot.await {
        Ok((mut machine, _registry)) => {
            against(&mut machine, SOCKET, kit, report).await;
            if context.full {
                web_sockets(&mut machine, kit, report).await;
                with_kills(&mut machine, context.faults.part("critest"), kit, report).await;
            } else {
                let why = "takes long; run with --full";
                report.skip("specs of streams over WebSockets", why);
                report.skip("specs with the agent killed every few seconds", why);
            }
        }
        Err(error) => report.check_alone("a node with a CRI boots", async { Err(error) }).await,
    }
}

/// Runs critest against the CRI at `socket` of a machine with a relay, and reports each group of specs as one check.
pub(super) async fn against(machine: &mut Machine, socket: &str, kit: &CriKit, report: &Report) {
    let mut specs = Vec::new();
    report
        .check("critest runs to its end on the machine", machine, async |machine| {
            let runner = runner(machine, socket).await?;
            specs = shards(&runner, &lanes("lane", kit, ""), machine.directory(), report).await?;
            runner.stop().await
        })
        .await;
    for (group, specs) in by_group(specs) {
        let name = format!("{group}: {} specs", specs.len());
        report.check(&name, machine, async |_| judge(&specs, report)).await;
    }
    for (spec, why) in SKIPPED {
        report.skip(spec, why);
    }
}

async fn web_sockets(machine: &mut Machine, kit: &CriKit, report: &Report) {
    report
        .check("streams pass over WebSockets, too", machine, async |machine| {
            let runner = runner(machine, SOCKET).await?;
            let mut shard = shard("web-sockets".to_owned(), STREAMS, kit, WEB_SOCKETS);
            shard.skip.clear();
            let specs = shards(&runner, &[shard], machine.directory(), report).await?;
            runner.stop().await?;
            judge(&specs, report)
        })
        .await;
}

/// All specs pass although the agent is killed every few seconds. What a kill interrupts is asked again by a go-between, as a kubelet
/// does; only specs whose streams break are begun again.
async fn with_kills(machine: &mut Machine, mut faults: Faults, kit: &CriKit, report: &Report) {
    report
        .check("all specs pass with the agent killed every few seconds", machine, async |machine| {
            let machine = &*machine;
            let mut runner = runner(machine, SOCKET).await?;
            runner.ask_again().await?;
            let (mut kills, done) = (0, std::cell::Cell::new(false));
            let killer = async {
                loop {
                    let pause = KILL_PAUSE.0 + faults.moment(KILL_PAUSE.1 - KILL_PAUSE.0);
                    tokio::time::sleep(pause).await;
                    if done.get() {
                        return anyhow::Ok(());
                    }
                    cri_node::kill_agent(machine).await?;
                    kills += 1;
                }
            };
            let specs = async {
                let specs = killed_shards(&runner, machine, kit, report).await;
                done.set(true);
                specs
            };
            let (killed, specs) = futures::join!(killer, specs);
            report.note(&format!("{kills} kills, seed {}", faults.seed()));
            killed?;
            let specs = specs?;
            let repeated = runner.asked_again().await?;
            report.note(&format!("calls that were asked again: {repeated:?}"));
            for spec in specs.iter().filter(|spec| spec.attempts > 1) {
                report.note(&format!("begun {} times: {}", spec.attempts, spec.name));
            }
            judge(&specs, report)
        })
        .await;
}

/// All specs; those of streams at last, because only they may be begun again.
async fn killed_shards(
    runner: &Runner,
    machine: &Machine,
    kit: &CriKit,
    report: &Report,
) -> anyhow::Result<Vec<Spec>> {
    let mut lanes = lanes("killed", kit, "");
    for lane in &mut lanes {
        lane.files.retain(|file| !STREAMS.contains(file));
    }
    let mut specs = shards(runner, &lanes, machine.directory(), report).await?;
    let streams = shard("killed-streams".to_owned(), STREAMS, kit, ATTEMPTS);
    specs.extend(shards(runner, &[streams], machine.directory(), report).await?);
    Ok(specs)
}

async fn runner(machine: &Machine, socket: &str) -> anyhow::Result<Runner> {
    let cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?)
        .await
        .with_context(|| format!("end of the console:\n{}", machine.console().tail(25)))?;
    Runner::start(cri, socket).await
}

fn lanes(name: &str, kit: &CriKit, flags: &str) -> Vec<Shard> {
    let shards = LANES.iter().enumerate();
    shards.map(|(number, files)| shard(format!("{name}-{number}"), files, kit, flags)).collect()
}

fn shard(name: String, files: &[&'static str], kit: &CriKit, flags: &str) -> Shard {
    let wanted =
        |file: &&&'static str| kit.focus.is_empty() || kit.focus.iter().any(|it| it == **file);
    Shard {
        name,
        files: files.iter().filter(wanted).copied().collect(),
        skip: SKIPPED.iter().map(|(spec, _)| (*spec).to_owned()).collect(),
        flags: vec![flags.to_owned()],
    }
}

/// Runs shards side by side; keeps what they printed in `folder`.
async fn shards(
    runner: &Runner,
    shards: &[Shard],
    folder: &Path,
    report: &Report,
) -> anyhow::Result<Vec<Spec>> {
    let shards = shards.iter().map(|shard| one_shard(runner, shard, folder, report));
    let specs = futures::future::try_join_all(shards).await?;
    Ok(specs.into_iter().flatten().collect())
}

async fn one_shard(
    runner: &Runner,
    shard: &Shard,
    folder: &Path,
    report: &Report,
) -> anyhow::Result<Vec<Spec>> {
    if shard.files.is_empty() {
        return Ok(Vec::new());
    }
    let begin = Instant::now();
    let result = runner.run(shard, SHARD_LIMIT).await;
    let output = runner.output(&shard.name).await.unwrap_or_default();
    fs_err::write(folder.join(format!("{}.log", shard.name)), output)?;
    report.note(&format!("{} took {} s", shard.name, begin.elapsed().as_secs()));
    result
}

/// An error with every spec that failed.
fn judge(specs: &[Spec], report: &Report) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for spec in specs {
        match &spec.outcome {
            Outcome::Passed => {}
            Outcome::Skipped(why) => report.skip(&spec.name, why),
            Outcome::Failed(message) => failures.push(format!("{}\n    {message}", spec.name)),
        }
    }
    if !failures.is_empty() {
        bail!("{} of {} failed:\n{}", failures.len(), specs.len(), failures.join("\n"));
    }
    Ok(())
}
