//! What the engine knows, as protobuf. Pure.

mod container;
mod image;
mod info;
mod sandbox;
mod stats;

pub(crate) use container::{container, container_state, container_status};
pub(crate) use image::image;
pub(crate) use info::{container_info, sandbox_info};
pub(crate) use sandbox::{sandbox, sandbox_state, sandbox_status};
pub(crate) use stats::{container_stats, sandbox_stats};

use jiff::Timestamp;

/// Nanoseconds since 1970; 0 when it has not happened.
pub(crate) fn nanoseconds(time: Option<Timestamp>) -> i64 {
    time.map_or(0, |time| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX))
}
