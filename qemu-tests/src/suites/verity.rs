//! Suite `verity`: a tampered block of the root is never served, and the node stops as its image says.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::Context;
use crate::artifacts::{Artifacts, Image};
use crate::credentials::Credentials;
use crate::disk;
use crate::documents;
use crate::machine::{Firmware, Machine, scratch_folder};
use crate::report::Report;

/// A file of the root that nothing reads by itself: its blocks can be tampered with and the node still starts.
const VICTIM: &str = "/usr/share/ingot/sbom.spdx.json";
/// The node notices at the first read.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let folder = scratch_folder(&context.artifacts.target, "tampered");
    let image =
        folder.and_then(|folder| Ok((tampered(&context.artifacts, folder.path())?, folder)));
    let (image, _folder) = match image {
        Ok(image) => image,
        Err(error) => {
            return report
                .check_alone("a copy of the image is tampered with", async { Err(error) })
                .await;
        }
    };
    let artifacts = context.artifacts.with_image(image);
    let name = "a tampered block is never served, and the node stops as its image says";
    on(report, name, boot(&artifacts, None), stops).await;
    let name = "with ingot.verity=eio a tampered block is an error, and the status says so";
    on(report, name, boot(&artifacts, Some("eio")), refuses).await;
}

async fn on(
    report: &Report,
    name: &str,
    boot: impl Future<Output = anyhow::Result<Machine>>,
    test: impl AsyncFnOnce(&mut Machine) -> anyhow::Result<()>,
) {
    match boot.await {
        Ok(mut machine) => report.check(name, &mut machine, test).await,
        Err(error) => report.check_alone(name, async { Err(error) }).await,
    }
}

/// A copy of the image in which the blocks of [`VICTIM`] are not what was signed.
fn tampered(artifacts: &Artifacts, folder: &Path) -> anyhow::Result<Image> {
    let original = &artifacts.image;
    let extent = disk::erofs_extent(&artifacts.tools, &original.root(), VICTIM)?;
    for file in [original.kernel(), original.initrd(), original.command_line_file()] {
        fs_err::copy(&file, folder.join(file.file_name().unwrap_or_default()))?;
    }
    let raw = folder.join("disk.raw");
    let mut copy = std::process::Command::new("cp");
    disk::output(copy.arg("--sparse=always").arg(original.raw_disk()).arg(&raw))?;
    let root = disk::partition(&raw, "ROOT-A")?;
    disk::invert(&raw, root.start + extent.start..root.start + extent.end)?;
    Image::find(folder)
}

async fn boot(artifacts: &Artifacts, verity: Option<&str>) -> anyhow::Result<Machine> {
    let credentials = Rc::new(Credentials::generate()?);
    let mut builder = Machine::builder(artifacts, "verity")
        .firmware(Firmware::Direct)
        .processors(1)
        .cidata(documents::machine(&credentials, "tampered"))
        .credentials(credentials);
    if let Some(word) = verity {
        builder = builder.cmdline_replace("ingot.verity=", word);
    }
    builder.boot().await
}

/// The image's own choice, `panic` or `restart`: the machine goes down without having served a byte.
async fn stops(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.wait_running().await?;
    let before = api.status().await?;
    let on_corruption = before.root.context("no root in the status")?.on_corruption;
    let position = machine.console().position()?;
    let word = match on_corruption.as_str() {
        "panic" => "Kernel panic",
        "restart" => "restart",
        other => bail!("a shipped image has ingot.verity={other}"),
    };
    let read = tokio::time::timeout(STOP_LIMIT, api.read(VICTIM, 0));
    let console = machine.console().wait_for_text_after(position, word, STOP_LIMIT);
    let (read, stopped) = futures::join!(
        async {
            // Silence and a broken connection are what a machine that stops looks like.
            if let Ok(Ok(bytes)) = read.await {
                bail!("{} bytes of a tampered file were served", bytes.len());
            }
            Ok(())
        },
        async {
            let reason = console.await.context("the node goes on")?;
            ensure!(
                on_corruption != "panic" || reason.contains("verity"),
                "it panicked of {reason}"
            );
            Ok(())
        }
    );
    read.and(stopped)
}

async fn refuses(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.wait_running().await?;
    if let Ok(bytes) = api.read(VICTIM, 0).await {
        bail!("{} bytes of a tampered file were served", bytes.len());
    }
    let root = api.status().await?.root.context("no root in the status")?;
    ensure!(root.verity == "corrupted" && root.on_corruption == "eio", "{root:?}");
    Ok(())
}
