//! `ExportImage`: an image as an archive.

use super::Messages;
use super::pull_image::refuse;
use super::streams::AHEAD;
use crate::copy::Writer;
use crate::grpc::Api;
use crate::grpc::status::cancelled;
use futures::StreamExt as _;
use ingot_api::machine::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

pub(super) async fn call(
    api: &Api,
    request: pb::ExportImageRequest,
) -> Result<Messages<pb::ExportImageResponse>, Status> {
    if request.image.is_empty() {
        return Err(Status::invalid_argument("no image is named"));
    }
    let store = super::engine(api).await?.images().clone();
    let (pieces, receiver) = mpsc::channel(AHEAD);
    let work = tokio::spawn(async move { store.export(&request.image, Writer::new(pieces)).await });
    let pieces =
        ReceiverStream::new(receiver).map(|archive| Ok(pb::ExportImageResponse { archive }));
    // After the last piece: how it went.
    let end = futures::stream::once(work).filter_map(|done| async {
        match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(refuse(&error))),
            Err(_) => Some(Err(cancelled())),
        }
    });
    Ok(Box::pin(pieces.chain(end)))
}
