//! Measures the numbers the project promises.

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `cargo xtask bench`.
pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("bench is not written yet")
}
