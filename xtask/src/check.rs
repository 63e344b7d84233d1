//! What a change must pass: format, lints, house rules, dependencies.

/// Arguments of `cargo xtask check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `cargo xtask check`.
pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("check is not written yet")
}
