//! `Bootstrap`: makes a cluster on this node. Returns once that is durable.

use crate::controllers::kubernetes::addresses;
use crate::grpc::Api;
use crate::grpc::status::{cancelled, failed, with_hint};
use crate::kubernetes::image;
use crate::kubernetes::record::{Record, Situation, decide};
use crate::state::{Severity, VolumeState};
use ingot_api::machine::v1 as pb;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fmt::Write as _;
use std::time::SystemTime;
use tonic::{Code, Status};

pub(super) async fn call(
    api: &Api,
    _: pb::BootstrapRequest,
) -> Result<pb::BootstrapResponse, Status> {
    let record = record(api)?;
    let answer = pb::BootstrapResponse { cluster: record.name.clone(), node: record.node.clone() };
    let (kubernetes, state) = (api.kubernetes.clone(), api.state.clone());
    // It waits for the disk.
    let stored = tokio::task::spawn_blocking(move || {
        let message = format!("cluster \"{}\", node \"{}\"", record.name, record.node);
        kubernetes.store(record)?;
        state.events.record(Severity::Info, "Bootstrapped", "kubernetes", message);
        Ok::<(), crate::kubernetes::record::RecordError>(())
    });
    stored
        .await
        .map_err(|_| cancelled())?
        .map_err(|error| failed(&error, "see `ingotctl status`"))?;
    Ok(answer)
}

fn record(api: &Api) -> Result<Record, Status> {
    let config = api.state.desired.config();
    let section = config.as_ref().and_then(|config| config.config.machine.kubernetes.as_ref());
    let var = match api.state.storage.get().var {
        VolumeState::Mounted => Ok(()),
        VolumeState::Failed(reason) => Err(reason),
        VolumeState::Unknown | VolumeState::Creating => {
            Err("it is being made; try again in a few seconds".to_owned())
        }
    };
    let present = match &var {
        Ok(()) => api.kubernetes.load().map_err(|error| failed(&error, ""))?,
        Err(_) => None,
    };
    let node = api.state.observed.snapshot().hostname;
    let situation = Situation {
        configured: config.is_some(),
        section,
        record: present.as_deref(),
        has_image: image().is_some(),
        var,
        node: &node,
        addresses: &addresses(&api.state),
        now: SystemTime::now(),
        clock_lost: api.state.observed.snapshot().clock_lost,
    };
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Status::internal("no random bytes"))?;
    let mut id = String::new();
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    decide(&situation, id)
        .map_err(|refused| with_hint(Code::FailedPrecondition, refused.to_string(), refused.hint()))
}
