//! `ingot-image`: the image builder's command line. Argument parsing only; the work is in the library.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ingot_image_builder::kubernetes::Built;
use ingot_image_builder::progress::{Progress as _, Terminal};
use ingot_image_builder::recipe;
use ingot_image_builder::tools::{Lock, LockMode, Tools};
use ingot_image_builder::{BuildOptions, build, customize, plan};

/// Builds bootable Ingot images.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Directory for everything that is built or downloaded.
    #[arg(long, default_value = "target", global = true)]
    target_dir: PathBuf,
    /// Root of the checkout.
    #[arg(long, default_value = ".", global = true)]
    workspace: PathBuf,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Download the tools (QEMU, OVMF, mkfs.erofs and others) without building anything.
    Tools,
    /// Build the image of a recipe into <target-dir>/images/<profile>/.
    Build {
        /// Recipe of configs/images.
        #[arg(long, default_value = "vm")]
        profile: String,
        /// Fail when the mirror no longer has a locked package version.
        #[arg(long)]
        locked: bool,
        /// Build even when nothing changed.
        #[arg(long)]
        force: bool,
        /// Take finished programs from this directory instead of compiling them.
        #[arg(long)]
        programs: Option<PathBuf>,
        /// Put Kubernetes in, from the directory where `cargo xtask kubernetes` left it.
        #[arg(long, value_name = "DIR")]
        kubernetes: Option<PathBuf>,
        /// Print what would be done, and do nothing.
        #[arg(long)]
        plan: bool,
    },
    /// Put a machine config into a raw disk image, without building anything.
    Customize {
        /// The image to start from; it is not changed.
        #[arg(long)]
        image: PathBuf,
        /// The machine config.
        #[arg(long)]
        config: PathBuf,
        /// The image to write.
        #[arg(long)]
        output: PathBuf,
    },
    /// Write configs/images/packages.lock anew, with the newest version of every package of every recipe.
    Lock,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let progress = Terminal::new();
    match &arguments.command {
        Verb::Tools => {
            let tools = Tools::ensure(&arguments.target_dir, &progress)?;
            println!("{}", tools.sysroot().display());
        }
        Verb::Build { profile, plan: true, kubernetes, .. } => {
            let mut options =
                BuildOptions::new(&arguments.workspace, &arguments.target_dir, profile);
            options.kubernetes = kubernetes.as_deref().map(Built::read).transpose()?;
            print!("{}", plan::plan(&build::load(&options)?));
        }
        Verb::Customize { image, config, output } => customize(image, config, output)?,
        Verb::Build { profile, locked, force, programs, kubernetes, plan: false } => {
            let mut options =
                BuildOptions::new(&arguments.workspace, &arguments.target_dir, profile);
            options.lock_mode = if *locked { LockMode::Locked } else { LockMode::Prefer };
            options.force = *force;
            options.programs.clone_from(programs);
            options.kubernetes = kubernetes.as_deref().map(Built::read).transpose()?;
            let built = build::build(&options, &progress)?;
            print_summary(&built);
        }
        Verb::Lock => write_lock(arguments, &progress)?,
    }
    Ok(())
}

fn print_summary(built: &ingot_image_builder::Built) {
    let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20);
    println!("{}", built.dir.display());
    for (name, output) in &built.manifest.outputs {
        println!("  {name:<16} {:>12}  sha256 {}", mib(output.size), output.sha256);
    }
    println!("what the compressed disk is made of (each part compressed alone):");
    for part in &built.manifest.made_of {
        println!("  {:<32} {:>12}  plain {:>12}", part.part, mib(part.compressed), mib(part.plain));
    }
}

fn write_lock(arguments: &Arguments, progress: &Terminal) -> anyhow::Result<()> {
    let tools = Tools::ensure(&arguments.target_dir, progress)?;
    let mut lock = Lock::default();
    let any = BuildOptions::new(&arguments.workspace, &arguments.target_dir, "vm");
    let mut names = Vec::new();
    for name in recipe::names(&any.recipes()) {
        let recipe = recipe::Recipe::load_with_kubernetes(&any.recipes(), &name)?;
        names.extend(build::package_names(&recipe));
    }
    names.sort();
    names.dedup();
    for package in tools.packages(&names, &Lock::default(), LockMode::Newest, progress)? {
        lock.packages.push(package.locked);
    }
    lock.write(&any.lock_file())?;
    progress.step(&format!("wrote {}", any.lock_file().display()));
    Ok(())
}
