//! The image service: one line for each RPC; the work is in [`super::image`].

use tonic::{Request, Response, Status};

use super::{Answer, Pieces, image};
use crate::server::Parts;
use crate::v1::{self, image_service_server::ImageService};

/// The image service.
#[derive(Clone)]
pub(crate) struct Images {
    parts: Parts,
}

impl Images {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts }
    }
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        image::list(&self.parts, request.into_inner()).await.map(Response::new)
    }

    type StreamImagesStream = Pieces<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        image::stream(&self.parts, request.into_inner()).await.map(Response::new)
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        image::status(&self.parts, request.into_inner()).await.map(Response::new)
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        image::pull(&self.parts, request.into_inner()).await.map(Response::new)
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        image::remove(&self.parts, request.into_inner()).await.map(Response::new)
    }

    async fn image_fs_info(
        &self,
        request: Request<v1::ImageFsInfoRequest>,
    ) -> Answer<v1::ImageFsInfoResponse> {
        image::fs_info(&self.parts, request.into_inner()).await.map(Response::new)
    }
}
