//! `logs`: the log of one container.

use crate::cli::{Format, Logs};
use crate::failure::Failure;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{PodLogsRequest, PodLogsResponse};
use serde::Serialize;

pub(super) async fn run(session: &Session<'_>, args: &Logs) -> Result<(), Failure> {
    let node = session.connect().await?;
    let (pod, container) = args.pod.split_once('/').unwrap_or((&args.pod, ""));
    let message = PodLogsRequest {
        namespace: args.namespace.clone(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        follow: args.follow,
        tail_lines: args.tail.unwrap_or(0),
        all_attempts: args.all_attempts,
    };
    let mut lines = node
        .stream("PodLogs", args.follow, message, async |mut api, request| {
            api.pod_logs(request).await
        })
        .await?;
    // Stream of a line that was cut and goes on. The other stream may come in between, on a line of its own.
    let mut open: Option<String> = None;
    while let Some(line) = lines.next().await? {
        let continued = open.as_ref() == Some(&line.stream);
        if open.is_some() && !continued && session.output.format == Format::Table {
            session.output.raw(b"\n")?;
        }
        show(session, &line, args.timestamps && !continued)?;
        open = line.partial.then_some(line.stream);
    }
    Ok(())
}

/// A line as JSON and YAML show it: as text, not in base64. What is not UTF-8 is replaced.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    stream: &'a str,
    attempt: u32,
    line: String,
    partial: bool,
}

fn show(session: &Session<'_>, line: &PodLogsResponse, stamped: bool) -> Result<(), Failure> {
    let time = || text::precise_time(line.time.as_ref());
    if session.output.format != Format::Table {
        let shown = Line {
            time: time(),
            stream: &line.stream,
            attempt: line.attempt,
            line: String::from_utf8_lossy(&line.line).into_owned(),
            partial: line.partial,
        };
        return session.output.data(&shown, true);
    }
    let mut bytes = Vec::with_capacity(line.line.len() + 40);
    if stamped {
        bytes.extend(format!("{} {} ", time(), line.stream).as_bytes());
    }
    bytes.extend(&line.line);
    if !line.partial {
        bytes.push(b'\n');
    }
    session.output.raw(&bytes)
}
