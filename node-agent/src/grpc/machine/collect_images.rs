//! `CollectImages`: makes room on the disk.

use super::list_images::used;
use super::pull_image::refuse;
use crate::grpc::Api;
use crate::state::Severity;
use ingot_api::machine::v1 as pb;
use tonic::Status;

pub(super) async fn call(
    api: &Api,
    request: pb::CollectImagesRequest,
) -> Result<pb::CollectImagesResponse, Status> {
    let engine = super::engine(api).await?;
    let store = engine.images();
    let before = store.usage().bytes;
    let mut removed = Vec::new();
    if request.unused {
        let used = used(&engine);
        for image in store.list().iter().filter(|image| !image.pinned) {
            if !used.contains(&image.id) {
                store.remove(&image.id).await.map_err(|error| refuse(&error))?;
                removed.push(image.id.clone());
            }
        }
    }
    if request.unused {
        store.forget_damaged().await.map_err(|error| refuse(&error))?;
    }
    store.gc().await.map_err(|error| refuse(&error))?;
    let freed_bytes = before.saturating_sub(store.usage().bytes);
    let message = format!("{} images, {freed_bytes} bytes", removed.len());
    api.state.events.record(Severity::Info, "ImagesCollected", "node", message);
    Ok(pb::CollectImagesResponse { freed_bytes, removed })
}
