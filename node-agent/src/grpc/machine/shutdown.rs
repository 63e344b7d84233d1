//! `Shutdown`: the ordered end of the machine. Returns when it has begun.

use crate::grpc::Api;
use crate::grpc::convert;
use crate::grpc::status::{failed, with_hint};
use crate::power;
use ingot_api::machine::v1 as pb;
use ingot_init_api::End;
use tonic::{Code, Status};

pub(super) async fn call(
    api: &Api,
    request: pb::ShutdownRequest,
) -> Result<pb::ShutdownResponse, Status> {
    let grace = convert::grace(request.grace, power::GRACE)
        .filter(|grace| *grace <= power::GRACE_MAX)
        .ok_or_else(|| with_hint(Code::InvalidArgument, "the grace is not from 0 to 1 h", ""))?;
    let pid1 = api.pods.pid1().map_err(|error| {
        with_hint(Code::Unavailable, error.to_string(), "try again in a second")
    })?;
    power::end(&api.state, &pid1, End::PowerOff, grace)
        .await
        .map_err(|error| failed(&error, ""))?;
    Ok(pb::ShutdownResponse {})
}
