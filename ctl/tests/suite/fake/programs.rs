//! What the fake runs in its containers: programs of a few lines, and a file system of one archive.

use super::machine::{Answers, hinted};
use ingot_api::machine::v1::*;
use std::sync::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};

/// Room for answers.
const AHEAD: usize = 4;

pub(super) async fn exec(
    mut messages: Streaming<ExecRequest>,
) -> Result<Response<Answers<ExecResponse>>, Status> {
    let Some(exec_request::Step::Start(start)) = messages.message().await?.unwrap().step else {
        return Err(Status::invalid_argument("no start"));
    };
    let container = start.container.clone().unwrap();
    if container.pod != "web" && container.id.is_empty() {
        let message = format!("there is no pod {}/{}", container.namespace, container.pod);
        return Err(hinted(Code::NotFound, message, "list them with `ingotctl containers`".into()));
    }
    let (to, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        use exec_response::Output;
        let say = async |output| {
            let _ = to.send(Ok(ExecResponse { output: Some(output) })).await;
        };
        match start.command[0].as_str() {
            "cat" => {
                while let Ok(Some(message)) = messages.message().await {
                    use stream_input::Input;
                    match message.step {
                        Some(exec_request::Step::Input(StreamInput {
                            input: Some(Input::Stdin(bytes)),
                        })) => say(Output::Stdout(bytes)).await,
                        Some(exec_request::Step::Input(StreamInput {
                            input: Some(Input::StdinEnd(_)),
                        })) => break,
                        _ => {}
                    }
                }
                say(Output::ExitCode(0)).await;
            }
            "lost" => say(Output::Stdout(b"half a sen".to_vec())).await,
            command => {
                say(Output::Stdout(format!("{command} {:?}\n", start.environment).into())).await;
                say(Output::Stderr(format!("tty {}\n", start.tty).into())).await;
                say(Output::ExitCode(42)).await;
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

pub(super) async fn attach(
    mut messages: Streaming<AttachRequest>,
) -> Result<Response<Answers<AttachResponse>>, Status> {
    use attach_response::Output;
    let Some(attach_request::Step::Start(_)) = messages.message().await?.unwrap().step else {
        return Err(Status::invalid_argument("no start"));
    };
    let (to, receiver) = mpsc::channel(AHEAD);
    for output in [Output::Tty(false), Output::Stdout(b"from now on\n".to_vec())] {
        let _ = to.send(Ok(AttachResponse { output: Some(output) })).await;
    }
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

/// Gives back what it gets, in capitals.
pub(super) async fn port_forward(
    mut messages: Streaming<PortForwardRequest>,
) -> Result<Response<Answers<PortForwardResponse>>, Status> {
    use port_forward_request::Step;
    let Some(Step::Start(start)) = messages.message().await?.unwrap().step else {
        return Err(Status::invalid_argument("no start"));
    };
    if start.port != 80 {
        return Err(Status::internal("connect to port of the pod: nobody listens"));
    }
    let (to, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let _ = to.send(Ok(PortForwardResponse { data: Vec::new() })).await;
        while let Ok(Some(PortForwardRequest { step: Some(Step::Data(data)) })) =
            messages.message().await
        {
            let data = data.to_ascii_uppercase();
            let _ = to.send(Ok(PortForwardResponse { data })).await;
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

/// Keeps the archive that was copied in, and gives it out again.
#[derive(Default)]
pub(super) struct Programs {
    archive: Mutex<Vec<u8>>,
}

impl Programs {
    pub(super) async fn copy_in(
        &self,
        mut messages: Streaming<CopyInRequest>,
    ) -> Result<Response<CopyInResponse>, Status> {
        use copy_in_request::Step;
        let Some(Step::Start(start)) = messages.message().await?.unwrap().step else {
            return Err(Status::invalid_argument("no start"));
        };
        if start.path == "/full" {
            return Err(Status::resource_exhausted("write /full: no space left on device"));
        }
        let mut archive = Vec::new();
        while let Some(message) = messages.message().await? {
            if let Some(Step::Archive(piece)) = message.step {
                archive.extend(piece);
            }
        }
        let bytes = archive.len() as u64;
        *self.archive.lock().unwrap() = archive;
        Ok(Response::new(CopyInResponse { entries: 1, bytes }))
    }

    pub(super) fn copy_out(&self) -> Vec<CopyOutResponse> {
        let archive = self.archive.lock().unwrap();
        archive.chunks(1000).map(|piece| CopyOutResponse { archive: piece.to_vec() }).collect()
    }
}
