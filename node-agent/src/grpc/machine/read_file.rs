//! `ReadFile`: the bytes of a regular file.

use super::Messages;
use super::list_files::refuse;
use crate::grpc::Api;
use crate::grpc::status::with_hint;
use crate::inspect::files::{self, FileError};
use ingot_api::machine::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Pieces on their way to the caller.
const AHEAD: usize = 2;

pub(super) async fn call(
    _: &Api,
    request: pb::ReadFileRequest,
) -> Result<Messages<pb::ReadFileResponse>, Status> {
    if request.path.is_empty() {
        return Err(with_hint(Code::InvalidArgument, "no path is given", ""));
    }
    let (sender, receiver) = mpsc::channel::<Result<Vec<u8>, FileError>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        // Reading ends when the caller has gone.
        files::read(request.path.as_ref(), request.offset, request.limit, &mut |piece| {
            sender.blocking_send(piece).is_ok()
        });
    });
    let stream = ReceiverStream::new(receiver);
    let response = |data| pb::ReadFileResponse { data };
    Ok(Box::pin(stream.map(move |piece| piece.map(response).map_err(|error| refuse(&error)))))
}
