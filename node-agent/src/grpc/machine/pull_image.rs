//! `PullImage`: fetches an image and tells how far it is.

use super::Messages;
use super::streams::AHEAD;
use crate::grpc::Api;
use crate::grpc::status::{failed, with_hint};
use ingot_api::machine::v1 as pb;
use ingot_images::{Auth, Error, ErrorKind, Progress};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Between two reports; a caller draws a bar with them, and notices a node that is gone without.
const REPORT_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn call(
    api: &Api,
    request: pb::PullImageRequest,
) -> Result<Messages<pb::PullImageResponse>, Status> {
    if request.reference.is_empty() {
        return Err(Status::invalid_argument("no image is named"));
    }
    let store = super::engine(api).await?.images().clone();
    let auth = Auth { username: request.username, password: request.password, ..Auth::default() };
    let (answers, receiver) = mpsc::channel(AHEAD);
    let (progress, reports) = watch::channel(Progress::default());
    tokio::spawn(async move {
        let pull = async { store.pull(&request.reference, &auth, Some(progress)).await };
        let result = tokio::select! {
            result = pull => result,
            // The store goes on for whoever else wants it, and ends by itself.
            () = report(&answers, reports) => return,
        };
        let last = result.map(|image| pb::PullImageResponse {
            bytes: image.size_bytes,
            bytes_total: image.size_bytes,
            id: image.id.clone(),
        });
        // Fails when the caller has gone.
        let _gone = answers.send(last.map_err(|error| refuse(&error))).await;
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Returns when the caller has gone.
async fn report(
    answers: &mpsc::Sender<Result<pb::PullImageResponse, Status>>,
    reports: watch::Receiver<Progress>,
) {
    loop {
        let Progress { bytes, bytes_total } = *reports.borrow();
        let answer = pb::PullImageResponse { bytes, bytes_total, id: String::new() };
        if answers.send(Ok(answer)).await.is_err() {
            return;
        }
        tokio::time::sleep(REPORT_EVERY).await;
    }
}

/// The status for an image that cannot be had, or not be removed.
pub(super) fn refuse(error: &Error) -> Status {
    let (code, hint) = match error.kind() {
        ErrorKind::Invalid => (Code::InvalidArgument, ""),
        ErrorKind::NotFound => (Code::NotFound, ""),
        ErrorKind::Unauthorized => {
            (Code::FailedPrecondition, "give --username and --password-file")
        }
        ErrorKind::Unavailable => (Code::Unavailable, "try again later"),
        ErrorKind::BadImage => (Code::FailedPrecondition, ""),
        ErrorKind::Exhausted => {
            (Code::ResourceExhausted, "make room with `ingotctl images gc --unused`")
        }
        ErrorKind::Deadline => (Code::DeadlineExceeded, ""),
        ErrorKind::Refused => (Code::FailedPrecondition, "bundled images are part of the system"),
        ErrorKind::Internal => return failed(error, ""),
    };
    with_hint(code, crate::report::chain(error), hint)
}
