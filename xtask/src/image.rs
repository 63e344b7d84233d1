//! Builds disk images with the library of `ingot-image`, and hands the result to the tests and the demo.

use anyhow::Context as _;
use ingot_image_builder::tools::Tools;
use ingot_qemu_tests::artifacts::{self, Artifacts, Image, Program};

use crate::workspace;

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which recipe of configs/images to build.
    #[arg(long, default_value = "vm", value_name = "NAME")]
    profile: String,
}

/// Runs `cargo xtask image`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    build(&args.profile)
}

/// Builds an image; cheap when nothing changed.
pub(crate) fn build(profile: &str) -> anyhow::Result<()> {
    anyhow::bail!("cannot build {profile} yet")
}

/// Builds the same image twice and compares.
pub(crate) fn build_twice() -> anyhow::Result<()> {
    anyhow::bail!("cannot build yet")
}

/// The built image of `profile` with everything needed to boot it.
pub(crate) fn artifacts(tools: &Tools, profile: &str) -> anyhow::Result<Artifacts> {
    let target = workspace::target();
    let image = Image::find(&target.join("images").join(profile)).context("find the image")?;
    let program = |name: &str| -> anyhow::Result<Program> { Ok(Program::from(&tools.command(name)?)) };
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

/// The operator's command line, built.
pub(crate) fn ingotctl() -> anyhow::Result<std::path::PathBuf> {
    workspace::run(workspace::cargo().args(["build", "--quiet", "--release", "--locked", "--package", "ingot-ctl"]))?;
    Ok(workspace::target().join("x86_64-unknown-linux-gnu/release/ingotctl"))
}
