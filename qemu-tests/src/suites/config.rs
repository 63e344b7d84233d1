//! Suite `config`: a wrong config is refused as a whole, and no full disk loses one.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ingot_api::machine::v1::container::State;

use super::{SharedNode, apply, apply_pods};
use crate::documents::{self, Pod};
use crate::machine::Machine;
use crate::report::Report;
use crate::{disk, wait};

/// A pod starts or a disk fills, in emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs the suite.
pub(super) async fn run(node: &mut SharedNode<'_>, report: &Report) {
    let Some(machine) = node.get(report).await else { return };
    report
        .check(
            "a wrong config is refused with every problem, and changes nothing",
            machine,
            refused,
        )
        .await;
    report.check("a dry run changes nothing", machine, dry_run).await;
    report.check("the same config again is no change", machine, unchanged).await;
    report.check("a changed hostname comes true", machine, hostname).await;
    report.check("a full VAR does not lose the config", machine, full_var).await;
    report.check("a full STATE does not lose the config", machine, full_state).await;
}

async fn refused(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    apply_pods(machine, &mut api, &[Pod::new("witness", &["sleep"]).document()]).await?;
    let witness = wait::until("the witness to run", LIMIT, async || {
        let container = api.container("witness").await?;
        Ok((container.pid > 0).then_some(container))
    })
    .await?;
    let before = api.config().await?;
    let wrong = documents::stream(&[
        documents::machine(machine.credentials(), "shared").replace("hostname:", "hostnam:"),
        Pod::new("greedy", &["sleep"]).memory("lots").document(),
        Pod::new("Not_A_Name", &["sleep"]).document(),
    ]);
    let answer = api.apply(&wrong).await?;
    ensure!(answer.problems.len() >= 3, "only these problems: {:#?}", answer.problems);
    let documents: Vec<u32> = answer.problems.iter().map(|problem| problem.document).collect();
    ensure!([0, 1, 2].iter().all(|index| documents.contains(index)), "{:#?}", answer.problems);
    for problem in &answer.problems {
        ensure!(
            !problem.path.is_empty() && problem.line > 0 && !problem.message.is_empty(),
            "{problem:?}"
        );
    }
    ensure!(
        answer.problems.iter().any(|problem| !problem.hint.is_empty()),
        "no problem has a hint"
    );
    let after = api.config().await?;
    ensure!(
        after.generation == before.generation && after.config == before.config,
        "the config changed"
    );
    let now = api.container("witness").await?;
    ensure!(
        now.id == witness.id && now.restarts == witness.restarts,
        "the witness was disturbed: {now:?}"
    );
    Ok(())
}

async fn dry_run(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let before = api.config().await?;
    let config = documents::machine(machine.credentials(), "other");
    let answer = api.dry_run(&config).await?;
    ensure!(
        answer.problems.is_empty() && !answer.unchanged && !answer.changes.is_empty(),
        "{answer:?}"
    );
    let after = api.config().await?;
    ensure!(
        after.generation == before.generation && after.config == before.config,
        "the config changed"
    );
    Ok(())
}

async fn unchanged(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let config = documents::machine(machine.credentials(), "shared");
    let generation = apply(&mut api, &config).await?;
    let again = api.apply(&config).await?;
    ensure!(again.unchanged && again.generation == generation, "{again:?}");
    Ok(())
}

async fn hostname(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    rename(machine, "renamed").await?;
    wait::until("the new name", LIMIT, async || {
        Ok((api.status().await?.node_name == "renamed").then_some(()))
    })
    .await?;
    let kernel = api.read_text("/proc/sys/kernel/hostname").await?;
    ensure!(kernel.trim() == "renamed", "the kernel says {kernel:?}");
    Ok(())
}

/// Gives the node another hostname and no pods.
async fn rename(machine: &Machine, name: &str) -> anyhow::Result<u64> {
    let mut api = machine.api()?;
    apply(&mut api, &documents::machine(machine.credentials(), name)).await
}

async fn full_var(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let filler = filling_pod();
    let config = [documents::machine(machine.credentials(), "before-full"), filler.clone()];
    apply(&mut api, &documents::stream(&config)).await?;
    wait::until("the disk to be full", LIMIT, async || {
        let container = api.container("filler").await?;
        ensure!(
            container.state() == State::Terminated && container.exit_code == 1,
            "{container:?}"
        );
        Ok(Some(()))
    })
    .await?;
    let volumes = api.status().await?.volumes;
    let var = volumes.iter().find(|volume| volume.name == "VAR").context("no volume VAR")?;
    ensure!(var.available_bytes < 8 << 20, "VAR is not full: {var:?}");
    let config = [documents::machine(machine.credentials(), "while-full"), filler];
    apply(&mut api, &documents::stream(&config)).await?;
    let mut api = machine.reboot().await?;
    let name = api.status().await?.node_name;
    ensure!(name == "while-full", "after the reboot the node is called {name}");
    // Room again, for the checks that follow.
    rename(machine, "after-full").await?;
    wait::until("room on VAR again", LIMIT, async || {
        let volumes = api.status().await?.volumes;
        Ok(volumes
            .iter()
            .any(|volume| volume.name == "VAR" && volume.available_bytes > 64 << 20)
            .then_some(()))
    })
    .await
}

/// A pod that writes into an `emptyDir` until nothing fits any more, and then fails.
fn filling_pod() -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: filler\nspec:\n  restartPolicy: Never\n  volumes:\n  \
         - name: room\n    emptyDir: {{}}\n  containers:\n  \
         - name: main\n    image: {}\n    args: [\"fill\", \"/room/file\", \"100000\"]\n    volumeMounts:\n    \
         - name: room\n      mountPath: /room\n",
        documents::WORKLOAD
    )
}

async fn full_state(machine: &mut Machine) -> anyhow::Result<()> {
    rename(machine, "state-before").await?;
    machine.shutdown().await?;
    machine.detach_cidata();
    machine.flatten_disk()?;
    disk::fill_ext4(&machine.artifacts().tools, machine.disk(), "STATE")?;
    machine.power_on().await?;
    let mut api = machine.wait_api().await?;
    let name = api.status().await?.node_name;
    ensure!(name == "state-before", "with a full STATE the node is called {name}");
    // Whether the node finds room or says that it has none: one of the two configs is there after the next boot.
    let config = documents::machine(machine.credentials(), "state-after");
    let expected = match api.apply(&config).await {
        Ok(answer) if answer.problems.is_empty() => "state-after",
        Ok(answer) => {
            anyhow::bail!("a full disk is no problem of the config: {:?}", answer.problems)
        }
        Err(error) => {
            let text = format!("{error:#}").to_lowercase();
            ensure!(
                text.contains("space") || text.contains("full"),
                "the error does not say why: {text}"
            );
            "state-before"
        }
    };
    let mut api = machine.reboot().await?;
    let name = api.status().await?.node_name;
    ensure!(name == expected, "after the reboot the node is called {name}, not {expected}");
    Ok(())
}
