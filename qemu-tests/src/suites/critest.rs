//! Suite `critest`: the Kubernetes project's conformance tests of container runtimes pass against the node, run on the node itself.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::{Context, CriKit};
use crate::cri::{Cri, RELAY_PORT};
use crate::cri_node::{self, SOCKET};
use crate::critest::{Outcome, Runner, Shard, Spec, by_group};
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

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    if !kit.has_cri_tools {
        return report.skip("critest against a node", "there is no critest; see the last lines");
    }
    let boot = cri_node::boot(&context.artifacts, &kit.images, "critest", 1536);
    match boot.await {
        Ok((mut machine, _registry)) => against(&mut machine, SOCKET, kit, report).await,
        Err(error) => report.check_alone("a node with a CRI boots", async { Err(error) }).await,
    }
}

/// Runs critest against the CRI at `socket` of a machine with a relay, and reports each group of specs as one check.
pub async fn against(machine: &mut Machine, socket: &str, kit: &CriKit, report: &Report) {
    let mut specs = Vec::new();
    report
        .check("critest runs to its end on the machine", machine, async |machine| {
            specs = all_shards(machine, socket, kit, report).await?;
            Ok(())
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

async fn all_shards(
    machine: &mut Machine,
    socket: &str,
    kit: &CriKit,
    report: &Report,
) -> anyhow::Result<Vec<Spec>> {
    let cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?)
        .await
        .with_context(|| format!("end of the console:\n{}", machine.console().tail(25)))?;
    let runner = Runner::start(cri, socket).await?;
    let lanes = LANES.iter().enumerate().map(|(number, files)| {
        let wanted =
            |file: &&&'static str| kit.focus.is_empty() || kit.focus.iter().any(|it| it == **file);
        let shard = Shard {
            name: format!("lane-{number}"),
            files: files.iter().filter(wanted).copied().collect(),
            skip: SKIPPED.iter().map(|(spec, _)| (*spec).to_owned()).collect(),
            flags: Vec::new(),
        };
        one_shard(&runner, shard, machine.directory(), report)
    });
    let specs = futures::future::try_join_all(lanes).await?;
    runner.stop().await?;
    Ok(specs.into_iter().flatten().collect())
}

/// Runs a shard and keeps what it printed in `folder`.
async fn one_shard(
    runner: &Runner,
    shard: Shard,
    folder: &Path,
    report: &Report,
) -> anyhow::Result<Vec<Spec>> {
    if shard.files.is_empty() {
        return Ok(Vec::new());
    }
    let begin = Instant::now();
    let result = runner.run(&shard, SHARD_LIMIT).await;
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
