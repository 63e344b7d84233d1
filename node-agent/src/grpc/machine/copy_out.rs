//! `CopyOut`: a file or folder of a container as an archive.

use super::Messages;
use super::streams::{self, ContainerObject};
use crate::copy;
use crate::grpc::Api;
use crate::grpc::status::{cancelled, failed};
use futures::StreamExt as _;
use ingot_api::machine::v1 as pb;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

pub(super) async fn call(
    api: &Api,
    request: Request<pb::CopyOutRequest>,
) -> Result<Messages<pb::CopyOutResponse>, Status> {
    let caller = streams::caller(&request)?;
    let request = request.into_inner();
    let engine = super::engine(api).await?;
    let name = streams::container(request.container);
    let found = engine.find_container(&name).map_err(|error| streams::refuse(&error))?;
    let root = engine.root(&name).map_err(|error| streams::refuse(&error))?;
    let message = format!("{caller} copies from {}", request.path);
    streams::record(api, "CopyOut", &ContainerObject::of(&found), message);
    let (pieces, receiver) = mpsc::channel(streams::AHEAD);
    let path = PathBuf::from(request.path);
    let work = tokio::task::spawn_blocking(move || {
        copy::pack(&root.path, &path, copy::Writer::new(pieces))
    });
    let pieces = ReceiverStream::new(receiver).map(|archive| Ok(pb::CopyOutResponse { archive }));
    // After the last piece: how it went.
    let end = futures::stream::once(work).filter_map(|done| async {
        match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(failed(&error, ""))),
            Err(_) => Some(Err(cancelled())),
        }
    });
    Ok(Box::pin(pieces.chain(end)))
}
