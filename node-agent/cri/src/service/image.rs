//! RPCs about images.

use std::collections::HashMap;
use std::sync::Arc;

use ingot_images::{Auth, ErrorKind, Image};
use jiff::Timestamp;
use tonic::Status;

use super::{Pieces, pieces};
use crate::check::{Checked, Invalid, required};
use crate::convert::HANDLERS;
use crate::server::Parts;
use crate::{show, status as statuses, v1};

/// Name of the image a request is about.
fn named(spec: Option<v1::ImageSpec>) -> Checked<String> {
    let spec = spec.ok_or_else(|| Invalid::new("image", "has to be given"))?;
    if !HANDLERS.contains(&spec.runtime_handler.as_str()) {
        let problem = format!("{:?} is not known; leave it empty", spec.runtime_handler);
        return Err(Invalid::new("image.runtime_handler", problem));
    }
    required("image.image", spec.image)
}

fn listed(parts: &Parts, filter: Option<v1::ImageFilter>) -> Vec<v1::Image> {
    let wanted = filter.and_then(|filter| filter.image).map(|image| image.image);
    match wanted.filter(|name| !name.is_empty()) {
        Some(name) => parts.images.find(&name).iter().map(|image| show::image(image)).collect(),
        None => parts.images.list().iter().map(|image| show::image(image)).collect(),
    }
}

pub(super) async fn list(
    parts: &Parts,
    request: v1::ListImagesRequest,
) -> Result<v1::ListImagesResponse, Status> {
    Ok(v1::ListImagesResponse { images: listed(parts, request.filter) })
}

pub(super) async fn stream(
    parts: &Parts,
    request: v1::StreamImagesRequest,
) -> Result<Pieces<v1::StreamImagesResponse>, Status> {
    let items = listed(parts, request.filter);
    Ok(pieces(items, |images| v1::StreamImagesResponse { images }))
}

/// An image that is not there is no error.
pub(super) async fn status(
    parts: &Parts,
    request: v1::ImageStatusRequest,
) -> Result<v1::ImageStatusResponse, Status> {
    let found = parts.images.find(&named(request.image)?);
    let info = match &found {
        Some(image) if request.verbose => info(image),
        _ => HashMap::new(),
    };
    Ok(v1::ImageStatusResponse { image: found.map(|image| show::image(&image)), info })
}

fn info(image: &Arc<Image>) -> HashMap<String, String> {
    let value = serde_json::json!({
        "chainLayers": image.layers.len(),
        "imageSpec": { "config": image.config },
    });
    HashMap::from([("info".to_owned(), value.to_string())])
}

pub(super) async fn pull(
    parts: &Parts,
    request: v1::PullImageRequest,
) -> Result<v1::PullImageResponse, Status> {
    let name = named(request.image)?;
    let auth = request.auth.map(auth).unwrap_or_default();
    let pulled = parts.images.pull(&name, &auth, None).await;
    let image = pulled.map_err(|error| statuses::image(&error))?;
    Ok(v1::PullImageResponse { image_ref: image.id.clone() })
}

fn auth(from: v1::AuthConfig) -> Auth {
    Auth {
        username: from.username,
        password: from.password,
        auth: from.auth,
        identity_token: from.identity_token,
        registry_token: from.registry_token,
        server_address: from.server_address,
    }
}

/// An image that is not there is removed.
pub(super) async fn remove(
    parts: &Parts,
    request: v1::RemoveImageRequest,
) -> Result<v1::RemoveImageResponse, Status> {
    match parts.images.remove(&named(request.image)?).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(statuses::image(&error)),
        _ => Ok(v1::RemoveImageResponse {}),
    }
}

/// Images and writable layers are on the same file system.
pub(super) async fn fs_info(
    parts: &Parts,
    _: v1::ImageFsInfoRequest,
) -> Result<v1::ImageFsInfoResponse, Status> {
    let usage = parts.images.usage();
    let filesystem = v1::FilesystemUsage {
        timestamp: show::nanoseconds(Some(Timestamp::now())),
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: usage.mountpoint.to_string_lossy().into_owned(),
        }),
        used_bytes: Some(v1::UInt64Value { value: usage.bytes }),
        inodes_used: Some(v1::UInt64Value { value: usage.inodes }),
    };
    Ok(v1::ImageFsInfoResponse {
        image_filesystems: vec![filesystem.clone()],
        container_filesystems: vec![filesystem],
    })
}
