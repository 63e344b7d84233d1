//! `Exec`: a program in a container, with the caller as its terminal.

use super::Messages;
use super::streams::{self, Answers, ContainerObject};
use crate::grpc::Api;
use ingot_api::machine::v1 as pb;
use ingot_runtime::exec::{Exec, ExecProcess, ExecSpec};
use ingot_runtime::io::Input;
use pb::exec_request::Step;
use pb::exec_response::Output;
use pb::stream_input::Input as Sent;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

pub(super) async fn call(
    api: &Api,
    request: Request<Streaming<pb::ExecRequest>>,
) -> Result<Messages<pb::ExecResponse>, Status> {
    let caller = streams::caller(&request)?;
    let mut messages = request.into_inner();
    let Some(Step::Start(start)) = streams::first(&mut messages).await?.step else {
        return Err(streams::no_start());
    };
    let Some(program) = start.command.first().filter(|program| !program.is_empty()) else {
        return Err(Status::invalid_argument("there is no program to run"));
    };
    let engine = super::engine(api).await?;
    let name = streams::container(start.container);
    let found = engine.find_container(&name).map_err(|error| streams::refuse(&error))?;
    // Arguments may be secrets.
    let arguments = start.command.len() - 1;
    let message = format!("{caller} runs {program} with {arguments} arguments");
    streams::record(api, "Exec", &ContainerObject::of(&found), message);
    let spec = ExecSpec {
        command: start.command,
        environment: start.environment,
        tty: start.tty,
        stdin: start.stdin,
        size: start.size.map(streams::size),
    };
    let exec = engine.exec(&name, spec).await.map_err(|error| streams::refuse(&error))?;
    let (answers, receiver) = mpsc::channel(streams::AHEAD);
    tokio::spawn(carry(exec, messages, answers));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn answer(output: Output) -> pb::ExecResponse {
    pb::ExecResponse { output: Some(output) }
}

async fn carry(
    exec: Exec,
    messages: Streaming<pb::ExecRequest>,
    answers: Answers<pb::ExecResponse>,
) {
    let Exec { stdin, stdout, stderr, process } = exec;
    let outputs = async {
        tokio::join!(
            streams::pump(Some(stdout), &answers, |bytes| answer(Output::Stdout(bytes))),
            streams::pump(stderr, &answers, |bytes| answer(Output::Stderr(bytes))),
        );
        process.wait().await
    };
    let input = async {
        feed(messages, stdin, &process).await;
        // What counts is the program's end.
        std::future::pending().await
    };
    tokio::select! {
        code = outputs => {
            // Fails when the caller has gone.
            let _gone = answers.send(Ok(answer(Output::ExitCode(code)))).await;
        }
        () = input => {}
        () = answers.closed() => process.kill().await,
    }
}

/// From the caller to the program, until the caller ends it.
async fn feed(
    mut messages: Streaming<pb::ExecRequest>,
    mut stdin: Option<Input>,
    process: &ExecProcess,
) {
    // An error means that the caller has gone, which shows in the answers.
    while let Ok(Some(message)) = messages.message().await {
        let Some(Step::Input(pb::StreamInput { input: Some(input) })) = message.step else {
            continue;
        };
        match input {
            Sent::Stdin(bytes) => {
                if let Some(to) = &mut stdin
                    && to.write_all(&bytes).await.is_err()
                {
                    // The program takes no more; it may still say something.
                    stdin = None;
                }
            }
            Sent::StdinEnd(_) => {
                if let Some(mut to) = stdin.take() {
                    let _closed = to.shutdown().await;
                }
            }
            Sent::Size(size) => {
                let (columns, rows) = streams::size(size);
                // A terminal that is gone has no size.
                let _gone = process.resize(columns, rows);
            }
        }
    }
}
