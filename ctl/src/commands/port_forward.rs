//! `port-forward`: connections to this machine go to a pod, each over a call of its own.

use crate::cli::{Format, Port, PortForward};
use crate::client::Node;
use crate::failure::{Exit, Failure};
use crate::session::Session;
use ingot_api::machine::v1::port_forward_request::Step;
use ingot_api::machine::v1::{PortForwardRequest, PortForwardStart};
use serde::Serialize;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes that are read at once.
const PIECE: usize = 16 * 1024;

/// Messages of one connection on their way to the node.
const AHEAD: usize = 4;

/// Connections at a time; the node carries 32 calls on one connection, and one is left for others.
const CONNECTIONS_MAX: usize = 31;

pub(super) async fn run(session: &Session<'_>, args: &PortForward) -> Result<(), Failure> {
    let node = session.connect().await?;
    let mut listening = JoinSet::new();
    for port in &args.ports {
        let listener = listen(session, args, *port).await?;
        let start = PortForwardStart {
            namespace: args.namespace.clone(),
            pod: args.target.pod().to_owned(),
            sandbox: args.target.id().to_owned(),
            port: port.remote.into(),
        };
        listening.spawn(accept(node.clone(), listener, start));
    }
    // They end only when they cannot listen any more.
    match listening.join_next().await {
        Some(Ok(failure)) => Err(failure),
        _ => Err(Failure::new(Exit::Failed, "stopped listening")),
    }
}

/// What is listened to, for programs.
#[derive(Serialize)]
struct Listening {
    local: SocketAddr,
    remote: u16,
}

async fn listen(
    session: &Session<'_>,
    args: &PortForward,
    port: Port,
) -> Result<TcpListener, Failure> {
    let wanted = SocketAddr::new(args.address, port.local);
    let failed = |error: std::io::Error| {
        Failure::usage(format!("cannot listen on {wanted}"))
            .because(&error)
            .hint("choose another port here, or leave it out: \":PORT\"")
    };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    if session.output.format == Format::Table {
        session.output.text(&format!("{local} -> {}\n", port.remote))?;
    } else {
        session.output.data(&Listening { local, remote: port.remote }, true)?;
    }
    Ok(listener)
}

async fn accept(node: Node, listener: TcpListener, start: PortForwardStart) -> Failure {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    return Failure::new(Exit::Failed, "cannot take a connection").because(&error);
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let (node, start) = (node.clone(), start.clone());
        connections.spawn(async move {
            // One connection that fails is told, and the others go on.
            if let Err(failure) = Box::pin(carry(&node, stream, start)).await {
                eprint!("{failure}");
            }
        });
    }
}

async fn carry(node: &Node, stream: TcpStream, start: PortForwardStart) -> Result<(), Failure> {
    let (from, mut to) = stream.into_split();
    let (sender, pieces) = mpsc::channel(AHEAD);
    let first = PortForwardRequest { step: Some(Step::Start(start)) };
    let messages = tokio_stream::once(first).chain(ReceiverStream::new(pieces));
    let mut answers = node
        .stream("PortForward", true, messages, async |mut api, request| {
            api.port_forward(request).await
        })
        .await?;
    let mut sending = std::pin::pin!(send(from, sender));
    let mut sent = false;
    loop {
        tokio::select! {
            answer = answers.next() => match answer? {
                Some(answer) => {
                    if to.write_all(&answer.data).await.is_err() {
                        // The program here has gone; the node notices by the end of the call.
                        return Ok(());
                    }
                }
                None => return Ok(()),
            },
            () = &mut sending, if !sent => sent = true,
        }
    }
}

/// From the program here to the node, until it ends.
async fn send(mut from: OwnedReadHalf, to: mpsc::Sender<PortForwardRequest>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let step = match from.read(&mut buffer).await {
            Ok(count @ 1..) => Step::Data(buffer.get(..count).unwrap_or_default().to_vec()),
            Ok(0) | Err(_) => Step::End(true),
        };
        let ended = matches!(step, Step::End(_));
        let message = PortForwardRequest { step: Some(step) };
        if to.send(message).await.is_err() || ended {
            return;
        }
    }
}
