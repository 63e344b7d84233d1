//! `ListImages`: images of the node.

use crate::grpc::Api;
use ingot_api::machine::v1 as pb;
use ingot_runtime::Engine;
use tonic::Status;

pub(super) async fn call(
    api: &Api,
    _: pb::ListImagesRequest,
) -> Result<pb::ListImagesResponse, Status> {
    let engine = super::engine(api).await?;
    let used = used(&engine);
    let images = engine.images().list();
    let images = images.iter().map(|image| pb::Image {
        id: image.id.clone(),
        tags: image.repo_tags.clone(),
        digests: image.repo_digests.clone(),
        size_bytes: image.size_bytes,
        bundled: image.pinned,
        containers: u32::try_from(used.iter().filter(|id| **id == image.id).count())
            .unwrap_or(u32::MAX),
    });
    let usage = engine.images().usage();
    Ok(pb::ListImagesResponse {
        images: images.collect(),
        store_bytes: usage.bytes,
        store_inodes: usage.inodes,
    })
}

/// Ids of the images of all containers, once for each container.
pub(super) fn used(engine: &Engine) -> Vec<String> {
    let names = engine.containers().into_iter().map(|container| container.image);
    names.filter_map(|name| engine.images().find(&name)).map(|image| image.id.clone()).collect()
}
