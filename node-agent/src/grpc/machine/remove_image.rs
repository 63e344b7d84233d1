//! `RemoveImage`: removes an image with all its names.

use super::pull_image::refuse;
use crate::grpc::Api;
use crate::grpc::status::with_hint;
use crate::state::Severity;
use ingot_api::machine::v1 as pb;
use tonic::{Code, Status};

pub(super) async fn call(
    api: &Api,
    request: pb::RemoveImageRequest,
) -> Result<pb::RemoveImageResponse, Status> {
    let engine = super::engine(api).await?;
    let Some(image) = engine.images().find(&request.image) else {
        let message = format!("there is no image \"{}\"", request.image);
        return Err(with_hint(Code::NotFound, message, "list them with `ingotctl images list`"));
    };
    engine.images().remove(&image.id).await.map_err(|error| refuse(&error))?;
    let object = format!("image/{}", image.id);
    api.state.events.record(Severity::Info, "ImageRemoved", object, "removed on request");
    Ok(pb::RemoveImageResponse {})
}
