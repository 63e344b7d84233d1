//! Our types to protobuf, by hand, so that the contract and the inside can change apart.

use crate::state::observed::LinkState;
use crate::state::{Condition, ConditionState, Stage};
use ingot_api::machine::v1 as pb;
use std::time::{Duration, SystemTime};

/// A point in time.
pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}

/// A point in time of the pod engine.
pub(super) fn jiff_timestamp(time: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// A span; one too long for protobuf (292 billion years) is zero.
pub(super) fn duration(span: Duration) -> prost_types::Duration {
    span.try_into().unwrap_or_default()
}

/// A span given by a caller; `None` for a negative one.
pub(super) fn grace(span: Option<prost_types::Duration>, default: Duration) -> Option<Duration> {
    span.map_or(Some(default), |span| span.try_into().ok())
}

/// The stage.
pub(super) fn stage(stage: Stage) -> pb::Stage {
    match stage {
        Stage::Booting => pb::Stage::Booting,
        Stage::Maintenance => pb::Stage::Maintenance,
        Stage::Configuring => pb::Stage::Configuring,
        Stage::Running => pb::Stage::Running,
        Stage::Degraded => pb::Stage::Degraded,
        Stage::Stopping => pb::Stage::Stopping,
    }
}

/// A condition.
pub(super) fn condition(condition: &Condition) -> pb::Condition {
    let state = match condition.state {
        ConditionState::Ok => pb::condition::State::Ok,
        ConditionState::Waiting => pb::condition::State::Waiting,
        ConditionState::Failed => pb::condition::State::Failed,
    };
    pb::Condition {
        name: condition.name.to_owned(),
        state: state.into(),
        message: condition.message.clone(),
        since: Some(timestamp(condition.since)),
        deadline: condition.deadline.map(timestamp),
        generation: condition.generation,
    }
}

/// A link.
pub(super) fn link(link: &LinkState) -> pb::LinkStatus {
    let cidr = |(address, prefix): &(std::net::IpAddr, u8)| format!("{address}/{prefix}");
    pb::LinkStatus {
        name: link.name.clone(),
        mac: link.mac.clone(),
        up: link.up,
        mtu: link.mtu,
        addresses: link.addresses.iter().map(cidr).collect(),
    }
}
