//! `Attach`: the streams of what a container runs.

use super::Messages;
use super::streams::{self, Answers, ContainerObject};
use crate::grpc::Api;
use crate::grpc::status::with_hint;
use ingot_api::machine::v1 as pb;
use ingot_runtime::io::{AttachedInput, AttachedOutput, Attachment, ContainerIo};
use pb::attach_request::Step;
use pb::attach_response::Output;
use pb::stream_input::Input as Sent;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

pub(super) async fn call(
    api: &Api,
    request: Request<Streaming<pb::AttachRequest>>,
) -> Result<Messages<pb::AttachResponse>, Status> {
    let caller = streams::caller(&request)?;
    let mut messages = request.into_inner();
    let Some(Step::Start(start)) = streams::first(&mut messages).await?.step else {
        return Err(streams::no_start());
    };
    let engine = super::engine(api).await?;
    let name = streams::container(start.container);
    let found = engine.find_container(&name).map_err(|error| streams::refuse(&error))?;
    let what = if start.stdin { "attaches with input" } else { "attaches" };
    streams::record(api, "Attach", &ContainerObject::of(&found), format!("{caller} {what}"));
    let (io, mut attachment) =
        engine.attach(&name).await.map_err(|error| streams::refuse(&error))?;
    if !start.stdin {
        attachment.stdin = None;
    }
    let (answers, receiver) = mpsc::channel(streams::AHEAD);
    tokio::spawn(carry(io, attachment, messages, answers));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn answer(output: Output) -> pb::AttachResponse {
    pb::AttachResponse { output: Some(output) }
}

async fn carry(
    io: ContainerIo,
    attachment: Attachment,
    messages: Streaming<pb::AttachRequest>,
    answers: Answers<pb::AttachResponse>,
) {
    let Attachment { stdin, stdout, stderr } = attachment;
    if answers.send(Ok(answer(Output::Tty(io.has_terminal())))).await.is_err() {
        return;
    }
    let outputs = async {
        tokio::join!(
            show(Some(stdout), &answers, Output::Stdout),
            show(stderr, &answers, Output::Stderr),
        );
    };
    let input = async {
        feed(messages, stdin, &io).await;
        std::future::pending().await
    };
    tokio::select! {
        () = outputs => {}
        () = input => {}
        // The container runs on.
        () = answers.closed() => {}
    }
}

/// From the container to the caller, until the container ends. A caller who takes it too slowly is told that it was cut
/// off: else it would look like the end of the container.
async fn show(
    from: Option<AttachedOutput>,
    to: &Answers<pb::AttachResponse>,
    wrap: impl Fn(Vec<u8>) -> Output,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; streams::PIECE];
    loop {
        let message = match from.read(&mut buffer).await {
            Ok(0) => return,
            Ok(count) => Ok(answer(wrap(buffer.get(..count).unwrap_or_default().to_vec()))),
            Err(error) => Err(with_hint(
                Code::DataLoss,
                error.to_string(),
                "the container runs on and its log is whole: `ingotctl logs`",
            )),
        };
        let last = message.is_err();
        if to.send(message).await.is_err() || last {
            return;
        }
    }
}

/// From the caller to the container, until the caller ends it.
async fn feed(
    mut messages: Streaming<pb::AttachRequest>,
    mut stdin: Option<AttachedInput>,
    io: &ContainerIo,
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
                    stdin = None;
                }
            }
            // Leaving closes the container's input where it was asked to be closed by the first that leaves.
            Sent::StdinEnd(_) => stdin = None,
            Sent::Size(size) => {
                let (columns, rows) = streams::size(size);
                let _gone = io.resize(columns, rows);
            }
        }
    }
}
