//! `PortForward`: one connection to a port of a pod.

use super::Messages;
use super::streams::{self, Answers, ContainerObject};
use crate::grpc::Api;
use ingot_api::machine::v1 as pb;
use ingot_runtime::reach::PodName;
use pb::port_forward_request::Step;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

pub(super) async fn call(
    api: &Api,
    request: Request<Streaming<pb::PortForwardRequest>>,
) -> Result<Messages<pb::PortForwardResponse>, Status> {
    let caller = streams::caller(&request)?;
    let mut messages = request.into_inner();
    let Some(Step::Start(start)) = streams::first(&mut messages).await?.step else {
        return Err(streams::no_start());
    };
    let port = u16::try_from(start.port).ok().filter(|port| *port > 0);
    let port =
        port.ok_or_else(|| Status::invalid_argument("a port is a number from 1 to 65535"))?;
    let engine = super::engine(api).await?;
    let object = ContainerObject::pod(&start.namespace, &start.pod);
    let name = PodName { namespace: start.namespace, pod: start.pod, sandbox: start.sandbox };
    let connection = engine.dial(&name, port).await.map_err(|error| streams::refuse(&error))?;
    streams::record(api, "PortForward", &object, format!("{caller} connects to port {port}"));
    let (answers, receiver) = mpsc::channel(streams::AHEAD);
    tokio::spawn(carry(connection, messages, answers));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn carry(
    connection: TcpStream,
    messages: Streaming<pb::PortForwardRequest>,
    answers: Answers<pb::PortForwardResponse>,
) {
    let answer = |data| pb::PortForwardResponse { data };
    if answers.send(Ok(answer(Vec::new()))).await.is_err() {
        return;
    }
    let (from, to) = connection.into_split();
    let input = async {
        feed(messages, to).await;
        // What counts is what the pod still says.
        std::future::pending().await
    };
    tokio::select! {
        () = streams::pump(Some(from), &answers, answer) => {}
        () = input => {}
        () = answers.closed() => {}
    }
}

/// From the caller to the pod, until the caller ends it.
async fn feed(mut messages: Streaming<pb::PortForwardRequest>, mut to: impl AsyncWrite + Unpin) {
    while let Ok(Some(message)) = messages.message().await {
        match message.step {
            Some(Step::Data(bytes)) => {
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Some(Step::End(_)) => break,
            Some(Step::Start(_)) | None => {}
        }
    }
    // Fails when the pod has closed the connection.
    let _closed = to.shutdown().await;
}
