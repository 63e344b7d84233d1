//! `ImportImages`: images from an archive of the caller.

use super::list_images::image;
use super::pull_image::refuse;
use super::streams::AHEAD;
use crate::copy::Reader;
use crate::grpc::Api;
use crate::grpc::status::cancelled;
use crate::state::Severity;
use ingot_api::machine::v1 as pb;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

pub(super) async fn call(
    api: &Api,
    mut messages: Streaming<pb::ImportImagesRequest>,
) -> Result<pb::ImportImagesResponse, Status> {
    let store = super::engine(api).await?.images().clone();
    let (pieces, receiver) = mpsc::channel(AHEAD);
    let work = tokio::spawn(async move { store.import(Reader::new(receiver)).await });
    let arrived = receive(&mut messages, &pieces).await;
    // Without the end of the archive the store sees that it was cut.
    drop(pieces);
    let imported = work.await.map_err(|_| cancelled())?;
    let imported = match (imported, arrived) {
        (Ok(imported), _) => imported,
        (Err(_), Err(status)) => return Err(status),
        (Err(error), Ok(())) => return Err(refuse(&error)),
    };
    for found in &imported {
        let object = format!("image/{}", found.id);
        api.state.events.record(
            Severity::Info,
            "ImageImported",
            object,
            found.repo_tags.join(", "),
        );
    }
    let images = imported.iter().map(|found| image(found, 0)).collect();
    Ok(pb::ImportImagesResponse { images })
}

/// Hands the archive over until it ends, or the store wants no more of it.
async fn receive(
    messages: &mut Streaming<pb::ImportImagesRequest>,
    pieces: &mpsc::Sender<Option<Vec<u8>>>,
) -> Result<(), Status> {
    loop {
        // Both are cancel safe.
        let message = tokio::select! {
            message = messages.message() => message?,
            () = pieces.closed() => return Ok(()),
        };
        let Some(pb::ImportImagesRequest { archive }) = message else { break };
        if pieces.send(Some(archive)).await.is_err() {
            return Ok(());
        }
    }
    // The store that has ended has all it wanted.
    let _done = pieces.send(None).await;
    Ok(())
}
