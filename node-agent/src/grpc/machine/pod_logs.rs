//! `PodLogs`: log lines of one container.

use super::Messages;
use crate::grpc::Api;
use crate::grpc::convert::jiff_timestamp;
use crate::grpc::status::{failed, with_hint};
use futures::StreamExt as _;
use ingot_api::machine::v1 as pb;
use ingot_runtime::logs::{LogError, LogLine, LogRequest};
use tonic::{Code, Status};

pub(super) async fn call(
    api: &Api,
    request: pb::PodLogsRequest,
) -> Result<Messages<pb::PodLogsResponse>, Status> {
    let engine = super::engine(api).await?;
    let request = LogRequest {
        namespace: request.namespace,
        pod: request.pod,
        container: request.container,
        follow: request.follow,
        tail_lines: request.tail_lines,
        all_attempts: request.all_attempts,
    };
    let lines = engine.logs(request).await.map_err(refuse)?;
    Ok(Box::pin(lines.map(|line| line.map(response).map_err(refuse))))
}

fn response(line: LogLine) -> pb::PodLogsResponse {
    pb::PodLogsResponse {
        time: Some(jiff_timestamp(line.time)),
        stream: line.stream.as_str().to_owned(),
        line: line.line,
        partial: line.partial,
        attempt: line.attempt,
    }
}

fn refuse(error: LogError) -> Status {
    let list = "list them with `ingotctl pods`";
    match &error {
        LogError::NoPod { .. } | LogError::NoContainer { .. } => {
            with_hint(Code::NotFound, error.to_string(), list)
        }
        LogError::Ambiguous { .. } => {
            with_hint(Code::InvalidArgument, error.to_string(), "name the container")
        }
        LogError::Read { .. } => failed(&error, ""),
    }
}
