//! Builds, boots and tries a node: what a newcomer sees first.

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `cargo xtask demo`.
pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("demo is not written yet")
}
