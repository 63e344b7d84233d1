//! Runs the tests of the workspace and those in QEMU.

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `cargo xtask test`.
pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("test is not written yet")
}
