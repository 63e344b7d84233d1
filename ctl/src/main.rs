//! `ingotctl`: reads the command line, runs the command, prints what went wrong.
#![forbid(unsafe_code)]

use clap::Parser;
use ingot_ctl::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match ingot_ctl::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{failure}");
            failure.exit_code()
        }
    }
}
