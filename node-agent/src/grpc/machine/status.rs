//! `Status`: the node at a glance.

use crate::grpc::{Api, convert};
use crate::inspect;
use ingot_api::machine::v1 as pb;
use std::path::Path;
use std::time::SystemTime;
use tonic::Status;

pub(super) async fn call(api: &Api, _: pb::StatusRequest) -> Result<pb::StatusResponse, Status> {
    let seen = api.state.observed.snapshot();
    let root = inspect::root();
    let memory = inspect::memory();
    Ok(pb::StatusResponse {
        stage: convert::stage(api.state.stage()).into(),
        conditions: seen.conditions().map(convert::condition).collect(),
        generation: api.state.desired.generation(),
        links: seen.links.iter().map(convert::link).collect(),
        root: Some(pb::RootStatus {
            root_hash: root.hash,
            verity: root.verity.to_owned(),
            read_only: root.read_only,
            on_corruption: root.on_corruption,
            slot: root.slot,
        }),
        memory: Some(pb::MemoryStatus {
            total_bytes: memory.total,
            available_bytes: memory.available,
        }),
        uptime: Some(convert::duration(ingot_linux::clock::since_boot())),
        boot_id: inspect::boot_id(),
        now: Some(convert::timestamp(SystemTime::now())),
        time_synchronized: seen.time_synchronized,
        volumes: seen.volumes.iter().map(volume).collect(),
        certificate_fingerprint: seen.fingerprint,
        node_name: seen.hostname,
    })
}

fn volume(volume: &crate::state::Volume) -> pb::VolumeStatus {
    // A volume that cannot say its size any more is still worth a line.
    let (size, available) =
        ingot_linux::volume::space(Path::new(&volume.mount_point)).unwrap_or_default();
    pb::VolumeStatus {
        name: volume.name.clone(),
        mount_point: volume.mount_point.clone(),
        device: volume.device.clone(),
        size_bytes: size,
        available_bytes: available,
    }
}
