//! Checks that the machine has what the other commands need, and installs what is missing or names the command that does.

/// Arguments of `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `cargo xtask setup`.
pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("setup is not written yet")
}
