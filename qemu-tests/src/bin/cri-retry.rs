//! `cri-retry`: passes the calls of a client on to a CRI, and asks again what a restart of the runtime interrupted, as a kubelet would.
//! critest asks nothing twice; through this it can be run against a runtime that is killed now and then, and every other failure still
//! is one.
//!
//! It understands no call but StartContainer, whose answer may have been lost although it did its work: a kubelet sees that in the
//! next list, and so does this. An answer of the runtime is never changed and never asked for twice.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::BoxFuture;
use futures::stream;
use ingot_qemu_tests::cri::v1::{
    ContainerState, ContainerStatusRequest, ContainerStatusResponse, StartContainerRequest,
    StartContainerResponse,
};
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use tokio::net::UnixListener;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Bytes, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

const USAGE: &str = "usage: cri-retry SOCKET RUNTIMES-SOCKET LOG";
/// What the kubelet allows a message to be.
const MESSAGE_LIMIT: usize = 16 << 20;
/// A runtime that does not come back in this time has not survived.
const RETURN_LIMIT: Duration = Duration::from_secs(120);
/// Between two tries; a kubelet's own are farther apart.
const PAUSE: Duration = Duration::from_millis(200);
const START: &str = "/runtime.v1.RuntimeService/StartContainer";
const STATUS: &str = "/runtime.v1.RuntimeService/ContainerStatus";

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [socket, runtime, log] = words.as_slice() else { bail!("{USAGE}") };
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    executor.block_on(serve(socket, runtime, log))
}

async fn serve(socket: &str, runtime: &str, log: &str) -> anyhow::Result<()> {
    // One from a former run.
    let _ = fs_err::remove_file(socket);
    let listener = UnixListener::bind(socket).with_context(|| format!("listen at {socket}"))?;
    let clients = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(client, _)| client);
        Some((accepted, listener))
    });
    let endpoint = Endpoint::from_shared(format!("unix://{runtime}")).context("name the CRI")?;
    let log = fs_err::OpenOptions::new().create(true).append(true).open(log)?;
    let passing = Arc::new(Passing { runtime: endpoint.connect_lazy(), log });
    Server::builder()
        .add_service(Calls::<true> { passing: passing.clone() })
        .add_service(Calls::<false> { passing })
        .serve_with_incoming(clients)
        .await
        .context("serve")
}

/// Where calls go.
#[derive(Debug)]
struct Passing {
    /// Connects again by itself.
    runtime: Channel,
    /// A line for each call that was asked again: its name.
    log: fs_err::File,
}

impl Passing {
    async fn call(&self, path: &str, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let (metadata, _, message) = request.into_parts();
        let deadline = Instant::now() + RETURN_LIMIT;
        let mut tries = 0_u32;
        loop {
            let answer = self.once(path, metadata.clone(), message.clone()).await;
            match answer {
                Err(status) if is_interrupted(&status) && Instant::now() < deadline => {
                    tries += 1;
                    if tries == 1 {
                        // Only for the count at the end.
                        let _ = writeln!(&self.log, "{path}");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) if tries > 0 && path == START => {
                    return self.started(&message).await.ok_or(status);
                }
                answer => return answer,
            }
        }
    }

    async fn once(
        &self,
        path: &str,
        metadata: MetadataMap,
        message: Bytes,
    ) -> Result<Response<Bytes>, Status> {
        let mut client = tonic::client::Grpc::new(self.runtime.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let path = http::uri::PathAndQuery::try_from(path)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let request = Request::from_parts(metadata, tonic::Extensions::default(), message);
        client.unary(request, path, Raw).await
    }

    /// The answer of a StartContainer that is refused when asked again, if that is because it was carried out the first time.
    async fn started(&self, request: &Bytes) -> Option<Response<Bytes>> {
        let request = StartContainerRequest::decode(request.clone()).ok()?;
        let request =
            ContainerStatusRequest { container_id: request.container_id, ..Default::default() };
        let message = Bytes::from(request.encode_to_vec());
        let answer = self.once(STATUS, MetadataMap::new(), message).await.ok()?.into_inner();
        let status = ContainerStatusResponse::decode(answer).ok()?.status?;
        let ran = matches!(
            status.state(),
            ContainerState::ContainerRunning | ContainerState::ContainerExited
        );
        ran.then(|| Response::new(StartContainerResponse::default().encode_to_vec().into()))
    }
}

/// Whether this is no answer: the connection broke before there was one. What the runtime says has no source.
fn is_interrupted(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// One of the two services.
#[derive(Debug, Clone)]
struct Calls<const IMAGE: bool> {
    passing: Arc<Passing>,
}

impl NamedService for Calls<true> {
    const NAME: &'static str = "runtime.v1.ImageService";
}

impl NamedService for Calls<false> {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}

impl<const IMAGE: bool> Service<http::Request<Body>> for Calls<IMAGE> {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call =
            Call { path: request.uri().path().to_owned(), passing: Arc::clone(&self.passing) };
        Box::pin(async move {
            let mut server = tonic::server::Grpc::new(Raw)
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT);
            Ok(server.unary(call, request).await)
        })
    }
}

/// One call.
#[derive(Debug)]
struct Call {
    path: String,
    passing: Arc<Passing>,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (path, passing) = (self.path.clone(), Arc::clone(&self.passing));
        Box::pin(async move { passing.call(&path, request).await })
    }
}

/// Messages as they come.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
