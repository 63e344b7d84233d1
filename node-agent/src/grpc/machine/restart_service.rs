//! `RestartService`: stops and starts a service of PID 1.

use crate::grpc::Api;
use crate::grpc::status::{failed, with_hint};
use crate::report;
use crate::state::Severity;
use ingot_api::machine::v1 as pb;
use ingot_init_api::{Name, Refusal};
use ingot_runtime::pid1::Pid1Error;
use std::time::Duration;
use tonic::{Code, Status};

/// The service that is this program.
const OWN_NAME: &str = "ingotd";
/// What an answer needs to reach the caller.
const HEAD_START: Duration = Duration::from_millis(50);

pub(super) async fn call(
    api: &Api,
    request: pb::RestartServiceRequest,
) -> Result<pb::RestartServiceResponse, Status> {
    let unknown = || {
        let message = format!("there is no service \"{}\"", request.name);
        with_hint(Code::NotFound, message, "list them with `ingotctl services`")
    };
    let name = Name::new(&request.name).map_err(|_| unknown())?;
    let pid1 = api.pods.pid1().map_err(|error| {
        with_hint(Code::Unavailable, error.to_string(), "try again in a second")
    })?;
    let object = format!("service/{}", request.name);
    let how = if request.kill { "killed and restarted" } else { "restarted" };
    api.state.events.record(Severity::Info, "ServiceRestart", object, format!("{how} on request"));
    if request.name == OWN_NAME {
        // The caller gets its answer before the one who gives it is gone.
        tokio::spawn(async move {
            tokio::time::sleep(HEAD_START).await;
            if let Err(error) = pid1.restart_service(name, request.kill).await {
                tracing::warn!("not restarted: {}", report::chain(&error));
            }
        });
        return Ok(pb::RestartServiceResponse {});
    }
    match pid1.restart_service(name, request.kill).await {
        Ok(()) => Ok(pb::RestartServiceResponse {}),
        Err(Pid1Error::Refused { refusal: Refusal::NotFound, .. }) => Err(unknown()),
        Err(error) => Err(failed(&error, "")),
    }
}
