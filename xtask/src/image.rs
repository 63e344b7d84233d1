//! Builds disk images with the library of `ingot-image`, and hands the result to the tests and the demo.

use anyhow::{Context as _, ensure};
use ingot_image_builder::progress::Terminal;
use ingot_image_builder::tools::Tools;
use ingot_image_builder::{BuildOptions, Built};
use ingot_qemu_tests::artifacts::{self, Artifacts, Image, Program};

use crate::{kubernetes, setup, workspace};

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which recipe of configs/images to build.
    #[arg(long, default_value = "vm", value_name = "NAME")]
    profile: String,
    /// Compile the node's programs fast instead of small: for trying a change, never for measuring.
    #[arg(long)]
    quick: bool,
    /// Put Kubernetes in; it is compiled first when that was not done yet, which takes some minutes.
    #[arg(long)]
    kubernetes: bool,
}

/// Runs `cargo xtask image`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let kubernetes = args.kubernetes.then(kubernetes::ensure).transpose()?;
    let built = build_with(&args.profile, args.quick, kubernetes)?;
    println!("{}", built.dir.display());
    for (name, output) in &built.manifest.outputs {
        println!("  {name:16} {:>9} KiB  sha256 {}", output.size / 1024, output.sha256);
    }
    println!("what the compressed disk is made of, each part compressed alone:");
    for part in &built.manifest.made_of {
        let (compressed, plain) = (part.compressed / 1024, part.plain / 1024);
        println!("  {:32} {compressed:>9} KiB, as files {plain:>9} KiB", part.part);
    }
    Ok(())
}

/// Builds an image; cheap when nothing changed.
pub(crate) fn build(profile: &str, quick: bool) -> anyhow::Result<Built> {
    build_with(profile, quick, None)
}

/// The same with Kubernetes where it is given ([`kubernetes::ensure`]): that is another image, beside the one without.
pub(crate) fn build_with(
    profile: &str,
    quick: bool,
    kubernetes: Option<kubernetes::Built>,
) -> anyhow::Result<Built> {
    let progress = Terminal::new();
    setup::ensure(&progress)?;
    let options = options(profile, quick, kubernetes);
    ingot_image_builder::build(&options, &progress)
        .with_context(|| format!("build the image {profile}"))
}

fn options(profile: &str, quick: bool, kubernetes: Option<kubernetes::Built>) -> BuildOptions {
    let mut options = BuildOptions::new(&workspace::root(), &workspace::target(), profile);
    options.quick = quick;
    options.kubernetes = kubernetes;
    options
}

/// Builds an image again from nothing, and compares it with the one that is there.
pub(crate) fn build_twice(
    profile: &str,
    kubernetes: Option<kubernetes::Built>,
) -> anyhow::Result<()> {
    let first = build_with(profile, false, kubernetes.clone())?;
    let progress = Terminal::new();
    let mut options = options(profile, false, kubernetes);
    options.force = true;
    let second =
        ingot_image_builder::build(&options, &progress).context("build the image again")?;
    let different: Vec<String> = first
        .manifest
        .outputs
        .iter()
        .filter(|(name, output)| {
            second.manifest.outputs.get(*name).map(|other| &other.sha256) != Some(&output.sha256)
        })
        .map(|(name, _)| name.clone())
        .collect();
    ensure!(
        different.is_empty(),
        "these differ from one build to the next: {}",
        different.join(", ")
    );
    ensure!(first.manifest.outputs.contains_key("disk.raw"), "the manifest lists no disk.raw");
    Ok(())
}

/// The built image of `profile` with everything needed to boot it.
pub(crate) fn artifacts(tools: &Tools, profile: &str, quick: bool) -> anyhow::Result<Artifacts> {
    artifacts_with(tools, profile, quick, None)
}

/// The same for the image with Kubernetes where it is given.
pub(crate) fn artifacts_with(
    tools: &Tools,
    profile: &str,
    quick: bool,
    kubernetes: Option<kubernetes::Built>,
) -> anyhow::Result<Artifacts> {
    let target = workspace::target();
    let options = options(profile, quick, kubernetes);
    let image = Image::find(&options.image_dir()).context("find the image")?;
    let program =
        |name: &str| -> anyhow::Result<Program> { Ok(Program::from(&tools.command(name)?)) };
    let tools = artifacts::Tools {
        qemu: Program::from(&tools.qemu()?),
        qemu_img: Program::from(&tools.qemu_img()?),
        debugfs: program("debugfs")?,
        dump_erofs: program("dump.erofs")?,
        firmware_code: tools.ovmf_code(),
        firmware_variables: tools.ovmf_vars(),
        ingotctl: ingotctl()?,
    };
    Ok(Artifacts { image, tools, target })
}

/// The operator's command line, built. Without optimisation: it only waits for the node, and the difference is minutes on
/// a machine that builds for the first time.
pub(crate) fn ingotctl() -> anyhow::Result<std::path::PathBuf> {
    let words = ["build", "--quiet", "--locked", "--package", "ingot-ctl"];
    workspace::run(workspace::cargo().args(words))?;
    Ok(workspace::target().join("x86_64-unknown-linux-gnu/debug/ingotctl"))
}
