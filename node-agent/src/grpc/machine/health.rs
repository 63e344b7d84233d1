//! `Health`: what of the cluster on this node is up, and what is waited for.

use super::engine;
use crate::grpc::{Api, convert};
use crate::kubernetes::health;
use ingot_api::machine::v1 as pb;
use std::time::SystemTime;
use tonic::{Code, Status};

pub(super) async fn call(api: &Api, _: pb::HealthRequest) -> Result<pb::HealthResponse, Status> {
    let config = api.state.desired.config();
    let section = config.as_ref().and_then(|config| config.config.machine.kubernetes.as_ref());
    let Some(role) = section.map(|section| section.role) else {
        let message = "the config has no section \"kubernetes\"";
        let hint = "see `ingotctl status` for the rest of the node";
        return Err(crate::grpc::status::with_hint(Code::FailedPrecondition, message, hint));
    };
    let record = api.kubernetes.record();
    let pods = engine(api).await?.snapshot();
    let disk = ingot_linux::volume::space(api.kubernetes.folder()).ok();
    let mut parts = health::parts(role, record.as_deref(), &pods, &api.kubernetes.seen(), disk);
    parts.extend(record.and_then(|record| health::clock(&record, SystemTime::now())));
    let part = |part: health::Part| pb::HealthPart {
        name: part.name,
        state: part.health.name().to_owned(),
        message: part.message,
        since: part.since.map(convert::timestamp),
    };
    Ok(pb::HealthResponse { parts: parts.into_iter().map(part).collect() })
}
