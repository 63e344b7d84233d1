//! The commands of xtask and their help. Parsing only: each command's arguments are defined beside the command.

use clap::{Parser, Subcommand};

use crate::{bench, check, demo, image, kubernetes, setup, test};

/// Every chore of the Ingot repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One variant per command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check that the machine has what the other commands need; install what is missing.
    Setup(setup::Args),
    /// Build a disk image.
    Image(image::Args),
    /// Compile upstream's Kubernetes to the one program that images with --kubernetes hold.
    Kubernetes(kubernetes::Args),
    /// Build, boot and try a node: the whole thing in one command.
    Demo(demo::Args),
    /// Run the tests, those in QEMU included.
    Test(test::Args),
    /// What a change must pass: format, lints, house rules, dependencies.
    Check(check::Args),
    /// Measure the numbers the project promises.
    Bench(bench::Args),
}
