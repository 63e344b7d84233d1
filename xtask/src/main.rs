//! Every chore of the repository behind one door: `cargo xtask <command>`. Dispatches and prints the error chain; each
//! command lives in its own file and no logic lives here.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod cli;
mod demo;
mod go;
mod image;
mod kubernetes;
mod setup;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    let result = match arguments.command {
        cli::Command::Setup(args) => setup::run(&args),
        cli::Command::Image(args) => image::run(&args),
        cli::Command::Kubernetes(args) => kubernetes::run(&args),
        cli::Command::Demo(args) => demo::run(&args),
        cli::Command::Test(args) => test::run(&args),
        cli::Command::Check(args) => check::run(&args),
        cli::Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
