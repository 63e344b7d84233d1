//! `ListFiles`: files below a path.

use super::Messages;
use crate::grpc::status::{failed, with_hint};
use crate::grpc::{Api, convert};
use crate::inspect::files::{self, FileError, Listed};
use ingot_api::machine::v1 as pb;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Entries on their way to the caller.
const AHEAD: usize = 64;

pub(super) async fn call(
    _: &Api,
    request: pb::ListFilesRequest,
) -> Result<Messages<pb::FileInfo>, Status> {
    let path = if request.path.is_empty() { "/".to_owned() } else { request.path };
    let (sender, receiver) = mpsc::channel::<Result<Listed, FileError>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        // The walk ends when the caller has gone.
        files::list(path.as_ref(), request.recursive, request.one_file_system, &mut |entry| {
            sender.blocking_send(entry).is_ok()
        });
    });
    let stream = ReceiverStream::new(receiver);
    Ok(Box::pin(stream.map(|entry| entry.map(response).map_err(|error| refuse(&error)))))
}

/// The status for a path that cannot be shown.
pub(super) fn refuse(error: &FileError) -> Status {
    match error {
        FileError::Secret { .. } => with_hint(
            Code::PermissionDenied,
            error.to_string(),
            "no role may read secrets of the node",
        ),
        FileError::Inspect(inner) => failed(inner, ""),
        FileError::Read { .. } => failed(error, ""),
    }
}

fn response(entry: Listed) -> pb::FileInfo {
    let modified = u64::try_from(entry.modified_seconds)
        .ok()
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    pb::FileInfo {
        path: entry.path.to_string_lossy().into_owned(),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        size_bytes: entry.size,
        modified_at: modified.map(convert::timestamp),
        link_target: entry
            .link_target
            .map(|t| t.to_string_lossy().into_owned())
            .unwrap_or_default(),
        error: entry.error.unwrap_or_default(),
    }
}
