//! What the RPCs with two streams have in common: the first message, who asked, and bytes in pieces.

use super::peer;
use crate::grpc::Api;
use crate::grpc::status::{failed, with_hint};
use crate::state::Severity;
use ingot_api::machine::v1 as pb;
use ingot_runtime::reach::{ContainerName, ReachError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, Streaming};

/// How long a caller may take to say what it wants.
const FIRST: Duration = Duration::from_secs(10);

/// Answers on their way to the caller; more would only hide that it is slow.
pub(super) const AHEAD: usize = 4;

/// Bytes in one answer.
pub(super) const PIECE: usize = 16 * 1024;

/// Where the answers of one call go.
pub(super) type Answers<T> = mpsc::Sender<Result<T, Status>>;

/// The first message of a caller.
pub(super) async fn first<T>(messages: &mut Streaming<T>) -> Result<T, Status> {
    let waiting = tokio::time::timeout(FIRST, messages.message());
    let first = waiting.await.map_err(|_| Status::deadline_exceeded("nothing was asked for"))??;
    first.ok_or_else(|| Status::invalid_argument("nothing was asked for"))
}

/// The answer to a first message that does not say what is wanted.
pub(super) fn no_start() -> Status {
    Status::invalid_argument("the first message must be \"start\"")
}

/// The container a caller means.
pub(super) fn container(reference: Option<pb::ContainerRef>) -> ContainerName {
    let reference = reference.unwrap_or_default();
    ContainerName {
        namespace: reference.namespace,
        pod: reference.pod,
        container: reference.container,
        id: reference.id,
    }
}

/// Who asks, for an event.
pub(super) fn caller<T>(request: &Request<T>) -> Result<String, Status> {
    let peer = peer(request)?;
    let name = peer.client.map_or_else(|| "somebody".to_owned(), |client| client.name);
    Ok(format!("{name} at {}", peer.address))
}

/// Records that somebody reached into a container.
pub(super) fn record(api: &Api, reason: &'static str, found: &ContainerObject, message: String) {
    api.state.events.record(Severity::Info, reason, found.0.clone(), message);
}

/// What an event is about.
pub(super) struct ContainerObject(String);

impl ContainerObject {
    /// A container that was found.
    pub(super) fn of(found: &ingot_runtime::reach::ContainerInfo) -> Self {
        Self(format!("container/{}/{}/{}", found.namespace, found.pod, found.container))
    }

    /// A pod as the caller names it.
    pub(super) fn pod(namespace: &str, pod: &str) -> Self {
        Self(format!("pod/{namespace}/{pod}"))
    }
}

/// The status for something that cannot be reached.
pub(super) fn refuse(error: &ReachError) -> Status {
    let list = "list them with `ingotctl containers`";
    match error {
        ReachError::NoPod { .. } | ReachError::NoContainer { .. } => {
            with_hint(Code::NotFound, error.to_string(), list)
        }
        ReachError::Ambiguous { .. } => {
            with_hint(Code::InvalidArgument, error.to_string(), "name one of them")
        }
        ReachError::NotRunning { .. } => {
            with_hint(Code::FailedPrecondition, error.to_string(), list)
        }
        _ => failed(error, ""),
    }
}

/// Sends what can be read until it ends or the caller has gone.
pub(super) async fn pump<T>(
    from: Option<impl AsyncRead + Unpin>,
    to: &Answers<T>,
    wrap: impl Fn(Vec<u8>) -> T,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; PIECE];
    // An error is the end too: of a terminal whose last program has left.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        if to.send(Ok(wrap(bytes))).await.is_err() {
            return;
        }
    }
}

/// A size as terminals have it.
pub(super) fn size(size: pb::TerminalSize) -> (u16, u16) {
    let side = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    (side(size.columns), side(size.rows))
}
