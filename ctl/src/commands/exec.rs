//! `exec`: a program in a container, with this terminal or these pipes as its own.

use super::streams::{Sent, Source};
use crate::cli::Exec;
use crate::failure::{Exit, Failure};
use crate::session::Session;
use crate::terminal::{self, Raw};
use ingot_api::machine::v1::exec_request::Step;
use ingot_api::machine::v1::exec_response::Output;
use ingot_api::machine::v1::{ExecRequest, ExecStart};
use std::io::IsTerminal as _;
use tokio_stream::StreamExt as _;

pub(super) async fn run(session: &Session<'_>, args: &Exec) -> Result<(), Failure> {
    if args.tty && args.stdin && !std::io::stdin().is_terminal() {
        return Err(Failure::usage("standard input is no terminal").hint("leave out -t"));
    }
    let node = session.connect().await?;
    let start = ExecStart {
        container: Some(args.target.container(&args.namespace)),
        command: args.command.clone(),
        stdin: args.stdin,
        tty: args.tty,
        size: if args.tty { terminal::size() } else { None },
        environment: args.env.clone(),
    };
    let first = ExecRequest { step: Some(Step::Start(start)) };
    let (mut source, inputs) = Source::new(args.stdin, false)?;
    let inputs = inputs.map(|input| ExecRequest { step: Some(Step::Input(input)) });
    let messages = tokio_stream::once(first).chain(inputs);
    let mut answers = node
        .stream("Exec", true, messages, async |mut api, request| api.exec(request).await)
        .await?;
    // Only now: what went wrong until here is told on a terminal that is as it was.
    let _raw = if args.tty && args.stdin { Raw::enter()? } else { None };
    loop {
        let answer = tokio::select! {
            answer = answers.next() => answer?,
            sent = source.next() => match sent {
                Sent::Something => continue,
                Sent::Ended => return Err(ended()),
            },
        };
        match answer.and_then(|answer| answer.output) {
            Some(Output::Stdout(bytes)) => session.output.verbatim(&bytes)?,
            Some(Output::Stderr(bytes)) => session.output.errors(&bytes)?,
            Some(Output::ExitCode(code)) => return exit(code),
            None => {
                return Err(Failure::new(
                    Exit::Failed,
                    "the node ended the program's streams without its exit code",
                ));
            }
        }
    }
}

fn exit(code: i32) -> Result<(), Failure> {
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::program(code)),
        Err(_) => Err(Failure::program(u8::MAX)),
    }
}

/// This program was asked to end.
pub(super) fn ended() -> Failure {
    Failure::new(Exit::Failed, "ended by a signal")
}
