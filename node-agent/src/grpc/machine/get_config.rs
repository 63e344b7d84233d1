//! `GetConfig`: the config the node works towards, without its secrets.

use crate::grpc::Api;
use crate::grpc::status::with_hint;
use ingot_api::machine::v1 as pb;
use tonic::{Code, Status};

pub(super) async fn call(
    api: &Api,
    _: pb::GetConfigRequest,
) -> Result<pb::GetConfigResponse, Status> {
    let none = || with_hint(Code::FailedPrecondition, "the node has no config", "apply one");
    let config = api.state.desired.config().ok_or_else(none)?;
    Ok(pb::GetConfigResponse {
        config: ingot_machine_config::redact(&config.text),
        generation: config.generation,
        source: config.source.name().to_owned(),
    })
}
