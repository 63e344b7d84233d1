//! `ingot-image`: the image builder's command line. Argument parsing only; the work is in the library.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ingot_image_builder::progress::Terminal;
use ingot_image_builder::tools::Tools;

/// Builds bootable Ingot images.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Directory for everything that is built or downloaded.
    #[arg(long, default_value = "target", global = true)]
    target_dir: PathBuf,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Download the tools (QEMU, OVMF, mkfs.erofs and others) without building anything.
    Tools,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let progress = Terminal::new();
    match arguments.command {
        Verb::Tools => {
            let tools = Tools::ensure(&arguments.target_dir, &progress)?;
            println!("{}", tools.sysroot().display());
        }
    }
    Ok(())
}
