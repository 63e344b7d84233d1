//! `completion`: a script that completes our commands in a shell of the operator's machine.

use crate::cli::{Cli, Completion};
use crate::failure::Failure;
use crate::session::Session;
use clap::CommandFactory;

pub(super) fn run(session: &Session<'_>, args: &Completion) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ingotctl", &mut script);
    session.output.raw(&script)
}
