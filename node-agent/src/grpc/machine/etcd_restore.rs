//! `EtcdRestore`: the database of a snapshot in the place of the cluster's. It is whole and on the disk before anything is changed.

use crate::grpc::Api;
use crate::grpc::status::{cancelled, failed, with_hint};
use crate::kubernetes::restore::{Incoming, RestoreError};
use crate::state::Severity;
use ingot_api::machine::v1 as pb;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

/// Pieces on their way to the disk.
const AHEAD: usize = 2;

pub(super) async fn call(
    api: &Api,
    mut messages: Streaming<pb::EtcdRestoreRequest>,
) -> Result<pb::EtcdRestoreResponse, Status> {
    let mut record = (*super::made_cluster(api)?).clone();
    if record.restoring {
        let message = "another snapshot is being restored";
        return Err(with_hint(Code::FailedPrecondition, message, "see `ingotctl health`"));
    }
    let (pieces, mut receiver) = mpsc::channel::<Vec<u8>>(AHEAD);
    let folder = api.kubernetes.folder().to_owned();
    let writing = tokio::task::spawn_blocking(move || {
        let mut incoming = Incoming::begin(&folder)?;
        while let Some(piece) = receiver.blocking_recv() {
            incoming.take(&piece)?;
        }
        incoming.finish()
    });
    while let Some(message) = messages.message().await? {
        // Whoever writes has failed, and says why below.
        if pieces.send(message.data).await.is_err() {
            break;
        }
    }
    drop(pieces);
    writing.await.map_err(|_| cancelled())?.map_err(|error| refuse(&error))?;
    record.restores = record.restores.saturating_add(1);
    record.restoring = true;
    let kubernetes = api.kubernetes.clone();
    let stored = tokio::task::spawn_blocking(move || kubernetes.store(record));
    stored.await.map_err(|_| cancelled())?.map_err(|error| failed(&error, ""))?;
    api.state.events.record(Severity::Warning, "EtcdRestore", "kubernetes", "on request");
    Ok(pb::EtcdRestoreResponse {})
}

fn refuse(error: &RestoreError) -> Status {
    match error {
        RestoreError::NotWhole => with_hint(
            Code::InvalidArgument,
            error.to_string(),
            "give a file that `ingotctl etcd snapshot` wrote to its end",
        ),
        RestoreError::Write { .. } => failed(error, "see `ingotctl status`"),
    }
}
