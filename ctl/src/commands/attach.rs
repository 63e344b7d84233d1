//! `attach`: the streams of what a container runs.

use super::exec::ended;
use super::streams::{Sent, Source};
use crate::cli::Attach;
use crate::failure::Failure;
use crate::session::Session;
use crate::terminal::{self, Raw};
use ingot_api::machine::v1::attach_request::Step;
use ingot_api::machine::v1::attach_response::Output;
use ingot_api::machine::v1::{AttachRequest, AttachStart};
use std::io::IsTerminal as _;
use tokio_stream::StreamExt as _;

pub(super) async fn run(session: &Session<'_>, args: &Attach) -> Result<(), Failure> {
    let node = session.connect().await?;
    let container = Some(args.target.container(&args.namespace));
    let start = AttachStart { container, stdin: args.stdin };
    let first = AttachRequest { step: Some(Step::Start(start)) };
    let leave = args.stdin && std::io::stdin().is_terminal();
    let (mut source, inputs) = Source::new(args.stdin, leave)?;
    let inputs = inputs.map(|input| AttachRequest { step: Some(Step::Input(input)) });
    let messages = tokio_stream::once(first).chain(inputs);
    let mut answers = node
        .stream("Attach", true, messages, async |mut api, request| api.attach(request).await)
        .await?;
    let mut raw = None;
    loop {
        let answer = tokio::select! {
            answer = answers.next() => answer?,
            sent = source.next() => match sent {
                Sent::Something => continue,
                Sent::Ended if source.left() => return Ok(()),
                Sent::Ended => return Err(ended()),
            },
        };
        match answer.and_then(|answer| answer.output) {
            Some(Output::Tty(tty)) => {
                if tty && args.stdin {
                    raw = Raw::enter()?;
                }
                if tty && let Some(size) = terminal::size() {
                    source.resize(size).await;
                }
            }
            Some(Output::Stdout(bytes)) => session.output.verbatim(&bytes)?,
            Some(Output::Stderr(bytes)) => session.output.errors(&bytes)?,
            None => {
                drop(raw);
                return Ok(());
            }
        }
    }
}
