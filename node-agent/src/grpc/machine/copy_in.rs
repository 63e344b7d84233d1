//! `CopyIn`: an archive into a container's file system.

use super::streams::{self, ContainerObject};
use crate::copy;
use crate::grpc::Api;
use crate::grpc::status::{cancelled, failed};
use ingot_api::machine::v1 as pb;
use pb::copy_in_request::Step;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tonic::{Request, Status, Streaming};

pub(super) async fn call(
    api: &Api,
    request: Request<Streaming<pb::CopyInRequest>>,
) -> Result<pb::CopyInResponse, Status> {
    let caller = streams::caller(&request)?;
    let mut messages = request.into_inner();
    let Some(Step::Start(start)) = streams::first(&mut messages).await?.step else {
        return Err(streams::no_start());
    };
    let engine = super::engine(api).await?;
    let name = streams::container(start.container);
    let found = engine.find_container(&name).map_err(|error| streams::refuse(&error))?;
    let root = engine.root(&name).map_err(|error| streams::refuse(&error))?;
    let message = format!("{caller} copies to {}", start.path);
    streams::record(api, "CopyIn", &ContainerObject::of(&found), message);
    let (pieces, receiver) = mpsc::channel(streams::AHEAD);
    let path = PathBuf::from(start.path);
    let work = tokio::task::spawn_blocking(move || {
        copy::unpack(&root.path, &path, root.owner, copy::Reader::new(receiver))
    });
    let arrived = receive(&mut messages, &pieces).await;
    // Without the end of the archive the work sees that it was cut.
    drop(pieces);
    let done = work.await.map_err(|_| cancelled())?;
    match (done, arrived) {
        (Ok(done), _) => Ok(pb::CopyInResponse { entries: done.entries, bytes: done.bytes }),
        (Err(_), Err(status)) => Err(status),
        (Err(error), Ok(())) => Err(failed(&error, "")),
    }
}

/// Hands the archive over until it ends, or the work wants no more of it.
async fn receive(
    messages: &mut Streaming<pb::CopyInRequest>,
    pieces: &mpsc::Sender<Option<Vec<u8>>>,
) -> Result<(), Status> {
    loop {
        // Both are cancel safe.
        let message = tokio::select! {
            message = messages.message() => message?,
            () = pieces.closed() => return Ok(()),
        };
        let Some(message) = message else { break };
        let Some(Step::Archive(piece)) = message.step else { continue };
        if pieces.send(Some(piece)).await.is_err() {
            return Ok(());
        }
    }
    // The work that has ended has all it wanted.
    let _done = pieces.send(None).await;
    Ok(())
}
