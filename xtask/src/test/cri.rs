//! Prepares what the suites of the CRI need: critest and crictl, the images they pull, and the runtime they are compared with.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ingot_image_builder::progress::Terminal;
use ingot_image_builder::tools::Tools;
use ingot_qemu_tests::registry::Registry;
use ingot_qemu_tests::report::Report;
use ingot_qemu_tests::suites::{self, CriKit, SUITES};

use super::cri_tools::CriTools;
use super::images::Ingredients;
use super::{Args, PROFILE, cri_tools, images};
use crate::bench::containerd;
use crate::{image, workspace};

/// Where the words of a kernel command line that are not the node's own begin with something else.
const OWN_WORD: &str = "ingot.";

/// What the suites called `names` need, all when there are none; `None` when none of them needs anything. Without critest the rest
/// is still prepared: the report tells what could not be had, and in CI that is a failure.
pub(super) fn kit(
    tools: &Tools,
    names: &[String],
    args: &Args,
    report: &Report,
) -> anyhow::Result<Option<CriKit>> {
    let suites = SUITES.iter().filter(|suite| suite.needs_cri());
    if !suites.clone().any(|suite| suite.is_wanted(names, args.full)) {
        if names.is_empty() {
            let why = "takes long; run with --full or by its name";
            suites.for_each(|suite| report.suite(suite.name).skip(suite.about, why));
        }
        return Ok(None);
    }
    let cri_tools = match cri_tools::ensure() {
        Ok(found) => Some(found),
        Err(error) if std::env::var_os("CI").is_some() => {
            return Err(error.context("critest must run in CI"));
        }
        Err(error) => {
            report.last_word(&format!("critest and crictl were not run: {error:#}"));
            None
        }
    };
    let images = write_images(tools, cri_tools.as_ref())?;
    let focus = args.focus.clone();
    Ok(Some(CriKit { images, has_cri_tools: cri_tools.is_some(), focus }))
}

/// The folder of all images for the benches: critest among them, and a large one made of a Debian `system`.
pub(crate) fn bench_images(
    tools: &Tools,
    directory: &Path,
    system: &Path,
) -> anyhow::Result<PathBuf> {
    let directory = directory.join("images");
    write(&directory, tools, Some(&cri_tools::ensure()?), Some(system))?;
    Ok(directory)
}

/// The folder of images for pods of a cluster, without critest.
pub(super) fn pod_images(tools: &Tools) -> anyhow::Result<PathBuf> {
    let directory = workspace::target().join("tools/pod-images");
    write(&directory, tools, None, None)?;
    Ok(directory)
}

fn write_images(tools: &Tools, cri_tools: Option<&CriTools>) -> anyhow::Result<PathBuf> {
    let directory = workspace::target().join("tools/test-images");
    write(&directory, tools, cri_tools, None)?;
    Ok(directory)
}

fn write(
    directory: &Path,
    tools: &Tools,
    cri_tools: Option<&CriTools>,
    large: Option<&Path>,
) -> anyhow::Result<()> {
    let (workload, load) = (workload()?, load()?);
    let retry = program("ingot-qemu-tests", "cri-retry")?;
    let from = Ingredients { workload: &workload, load: &load, retry: &retry, cri_tools, large };
    images::ensure(directory, tools, &from, &Terminal::new())
        .context("make the container images of the tests")
}

/// The test program, for container images.
pub(crate) fn workload() -> anyhow::Result<PathBuf> {
    program("ingot-workload", "workload")
}

/// The client of the CRI that measures, for the image it runs in.
pub(crate) fn load() -> anyhow::Result<PathBuf> {
    program("ingot-qemu-tests", "cri-load")
}

/// A program for container images. Without slow optimisation: it does next to nothing, and the same for every runtime.
fn program(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let words = ["build", "--quiet", "--locked", "--profile", "quick", "--package", package];
    workspace::run(workspace::cargo().args(words).args(["--bin", name]))?;
    Ok(workspace::target().join("x86_64-unknown-linux-gnu/quick").join(name))
}

/// Runs the suites that need only a CRI in a machine with Debian's containerd, to see what the harness and its images are worth.
pub(super) fn against_containerd(
    tools: &Tools,
    args: &Args,
    report: &Report,
) -> anyhow::Result<()> {
    let kit = kit(tools, &["critest".to_owned()], args, report)?.context("nothing to run")?;
    let artifacts = image::artifacts(tools, PROFILE, args.quick)?;
    let line = artifacts.image.command_line()?;
    let kernel_words: Vec<&str> =
        line.split_whitespace().filter(|word| !word.starts_with(OWN_WORD)).collect();
    let bench = workspace::target().join("bench");
    let progress = Terminal::new();
    let image = containerd::image(
        tools,
        &progress,
        &bench,
        &workload()?,
        &artifacts.image.kernel(),
        &kernel_words.join(" "),
    )?;
    drop(progress);
    let registry = Registry::start(&kit.images)?;
    let builder = containerd::machine(&artifacts, &image, &registry);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let mut machine = builder.boot().await?;
        suites::run_against(&mut machine, containerd::SOCKET, &kit, &args.names, report).await;
        Ok(())
    })
}
