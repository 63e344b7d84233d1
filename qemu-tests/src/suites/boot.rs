//! Suite `boot`: every way to start, configure and stop a node.

use std::rc::Rc;

use anyhow::{Context as _, ensure};
use ingot_api::machine::v1::Stage;

use super::{Context, SharedNode};
use crate::credentials::Credentials;
use crate::disk::output;
use crate::documents;
use crate::machine::{BOOT_LIMIT, Firmware, Machine};
use crate::report::Report;

/// What a guest with 512 MiB can have at most, in bytes.
const MEMORY: u64 = 512 << 20;

/// Runs the suite.
pub(super) async fn run(node: &mut SharedNode<'_>, report: &Report) {
    let context = node.context;
    if let Some(machine) = node.get(report).await {
        report
            .check("it boots by UEFI from the disk image with 512 MiB", machine, by_firmware)
            .await;
        report.check("it has an address by DHCP", machine, by_dhcp).await;
        report.check("it made its partitions at first boot", machine, partitions).await;
        report
            .check("it shows name, address and fingerprint on the console", machine, console)
            .await;
        report
            .check("it reboots by the API", machine, async |machine| {
                machine.reboot().await.map(drop)
            })
            .await;
        let mut before = Remembered::None;
        report
            .check("it powers off by the API", machine, async |machine| {
                before = Some(remember(machine).await?);
                machine.shutdown().await
            })
            .await;
        report
            .check("it keeps its config without the CIDATA drive", machine, async |machine| {
                without_cidata(machine, &before).await
            })
            .await;
        report.check("it powers off by the ACPI power button", machine, power_button).await;
    }
    unconfigured(context, report).await;
}

async fn by_firmware(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.wait_running().await?;
    let memory = api.status().await?.memory.context("no memory in the status")?;
    ensure!(memory.total_bytes < MEMORY && memory.total_bytes > MEMORY / 2, "{memory:?}");
    let text = machine.console().text()?;
    ensure!(text.contains("BdsDxe"), "the console shows no firmware");
    let version = api.version().await?;
    ensure!(!version.maintenance && version.kernel.starts_with("6."), "{version:?}");
    Ok(())
}

async fn by_dhcp(machine: &mut Machine) -> anyhow::Result<()> {
    let links = machine.api()?.status().await?.links;
    // QEMU's own DHCP server gives this address to the first who asks.
    let has = links
        .iter()
        .any(|link| link.up && link.addresses.iter().any(|address| address == "10.0.2.15/24"));
    ensure!(has, "{links:?}");
    Ok(())
}

async fn partitions(machine: &mut Machine) -> anyhow::Result<()> {
    let volumes = machine.api()?.status().await?.volumes;
    for (name, mount_point) in [("STATE", "/state"), ("VAR", "/var")] {
        let has =
            volumes.iter().any(|volume| volume.name == name && volume.mount_point == mount_point);
        ensure!(has, "no {name} on {mount_point}: {volumes:?}");
    }
    Ok(())
}

async fn console(machine: &mut Machine) -> anyhow::Result<()> {
    let status = machine.api()?.status().await?;
    let text = machine.console().text()?;
    for part in [status.node_name.as_str(), "10.0.2.15"] {
        ensure!(text.contains(part), "the console does not show {part:?}");
    }
    let plain: String = text.chars().filter(|c| *c != ':').collect::<String>().to_lowercase();
    ensure!(
        plain.contains(&status.certificate_fingerprint[..16]),
        "the console does not show the fingerprint"
    );
    Ok(())
}

/// The node's config and name, to compare with later ones.
type Remembered = Option<(u64, String)>;

async fn remember(machine: &mut Machine) -> anyhow::Result<(u64, String)> {
    let mut api = machine.api()?;
    Ok((api.config().await?.generation, api.status().await?.node_name))
}

async fn without_cidata(machine: &mut Machine, before: &Remembered) -> anyhow::Result<()> {
    ensure!(machine.process_id().is_none(), "the machine is still on");
    machine.detach_cidata();
    machine.power_on().await?;
    machine.wait_running().await?;
    let now = Some(remember(machine).await?);
    ensure!(now == *before, "generation and name were {before:?} and are {now:?}");
    Ok(())
}

async fn power_button(machine: &mut Machine) -> anyhow::Result<()> {
    machine.qmp()?.power_button().await?;
    machine.wait_off().await
}

/// A node without any config: pairing by the code on its console.
async fn unconfigured(context: &Context, report: &Report) {
    let name = "a node without a config shows a pairing code";
    let machine = Machine::builder(&context.artifacts, "unconfigured")
        .firmware(Firmware::Direct)
        .boot()
        .await;
    let mut machine = match machine {
        Ok(machine) => machine,
        Err(error) => return report.check_alone(name, async { Err(error) }).await,
    };
    let mut code = None;
    report
        .check(name, &mut machine, async |machine| {
            code = Some(machine.console().wait_for_text("pairing code: ", BOOT_LIMIT).await?);
            Ok(())
        })
        .await;
    let Some(code) = code else { return };
    let code = code.split_whitespace().next().unwrap_or_default().to_owned();
    report
        .check("a wrong pairing code is refused", &mut machine, async |machine| {
            let refusal = pair(machine, "0000-0000-0000-0000");
            ensure!(refusal.is_err(), "it was accepted: {refusal:?}");
            Ok(())
        })
        .await;
    report
        .check("the right pairing code gives the node its config", &mut machine, async |machine| {
            pair(machine, &code)?;
            let mut api = machine.wait_running().await?;
            let status = api.status().await?;
            ensure!(status.node_name == "paired" && status.stage() == Stage::Running, "{status:?}");
            ensure!(
                api.config().await?.source == "api",
                "the config is from {:?}",
                api.config().await?.source
            );
            Ok(())
        })
        .await;
    report
        .check("a paired node takes no other pairing", &mut machine, async |machine| {
            ensure!(pair(machine, &code).is_err(), "the code still works");
            Ok(())
        })
        .await;
}

/// Applies a config the way an operator does: with the command line and the code from the console.
fn pair(machine: &Machine, code: &str) -> anyhow::Result<String> {
    let credentials: &Rc<Credentials> = machine.credentials();
    let config = machine.directory().join("config.yaml");
    fs_err::write(&config, documents::machine(credentials, "paired"))?;
    let mut command = std::process::Command::new(&machine.artifacts().tools.ingotctl);
    command.args(["apply", "--endpoint", &format!("127.0.0.1:{}", machine.port())]);
    command.args(["--pairing-code", code, "--timeout", "60s", "-f"]).arg(&config);
    // The operator's own contexts have no place in a test.
    command.env("INGOTCONFIG", machine.directory().join("contexts.yaml"));
    output(&mut command).context("ingotctl apply with a pairing code")
}
