//! `ListImages`: images of the node.

use crate::grpc::Api;
use ingot_api::machine::v1 as pb;
use ingot_images::Image;
use ingot_runtime::Engine;
use tonic::Status;

pub(super) async fn call(
    api: &Api,
    _: pb::ListImagesRequest,
) -> Result<pb::ListImagesResponse, Status> {
    let engine = super::engine(api).await?;
    let used = used(&engine);
    let images = engine.images().list();
    let images = images.iter().map(|found| {
        let containers = used.iter().filter(|id| **id == found.id).count();
        image(found, u32::try_from(containers).unwrap_or(u32::MAX))
    });
    let usage = engine.images().usage();
    Ok(pb::ListImagesResponse {
        images: images.collect(),
        store_bytes: usage.bytes,
        store_inodes: usage.inodes,
    })
}

/// An image as the API shows it.
pub(super) fn image(image: &Image, containers: u32) -> pb::Image {
    pb::Image {
        id: image.id.clone(),
        tags: image.repo_tags.clone(),
        digests: image.repo_digests.clone(),
        size_bytes: image.size_bytes,
        bundled: image.pinned,
        containers,
    }
}

/// Ids of the images of all containers, once for each container.
pub(super) fn used(engine: &Engine) -> Vec<String> {
    let names = engine.containers().into_iter().map(|container| container.image);
    names.filter_map(|name| engine.images().find(&name)).map(|image| image.id.clone()).collect()
}
