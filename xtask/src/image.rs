//! Builds a disk image with the library of `ingot-image`.

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `cargo xtask image`.
pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("image is not written yet")
}
