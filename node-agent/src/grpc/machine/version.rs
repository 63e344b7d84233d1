//! `Version`: what is running.

use crate::grpc::Api;
use crate::state::desired::Wish;
use ingot_api::machine::v1 as pb;
use serde::Deserialize;
use tonic::Status;

/// Where the image builder says what it built.
const RELEASE: &str = "/usr/share/ingot/release.json";

/// What of it is reported.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Release {
    version: String,
    revision: String,
    profile: String,
}

pub(super) async fn call(api: &Api, _: pb::VersionRequest) -> Result<pb::VersionResponse, Status> {
    // An image without the file is still one that can say its kernel.
    let release: Release = std::fs::read(RELEASE)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let kernel = rustix::system::uname();
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    Ok(pb::VersionResponse {
        version: or(release.version, env!("CARGO_PKG_VERSION")),
        revision: or(release.revision, "unknown"),
        kernel: kernel.release().to_string_lossy().into_owned(),
        architecture: kernel.machine().to_string_lossy().into_owned(),
        profile: or(release.profile, "unknown"),
        maintenance: matches!(&*api.state.desired.borrow(), Wish::Nothing),
    })
}
