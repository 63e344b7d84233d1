//! `Dmesg`: records of the kernel log, and with `follow` new ones as they come.

use super::Messages;
use crate::grpc::status::failed;
use crate::grpc::{Api, convert};
use futures::stream;
use ingot_api::machine::v1 as pb;
use ingot_linux::kmsg::{KmsgError, KmsgReader, Next, Record};
use std::collections::VecDeque;
use std::time::Duration;
use tonic::Status;

/// Records read in one go; the kernel's ring holds more, but not much more.
const BATCH: usize = 16_384;

/// Between two looks for new records while somebody follows.
const INTERVAL: Duration = Duration::from_millis(200);

/// Where a reader is.
struct Reader {
    log: KmsgReader,
    pending: VecDeque<Record>,
    follow: bool,
}

pub(super) async fn call(
    _: &Api,
    request: pb::DmesgRequest,
) -> Result<Messages<pb::DmesgResponse>, Status> {
    let log = KmsgReader::open().map_err(|error| failed(&error, ""))?;
    let mut pending = batch(&log).map_err(|error| failed(&error, ""))?;
    let tail = usize::try_from(request.tail).unwrap_or(usize::MAX);
    if tail > 0 && pending.len() > tail {
        pending.drain(..pending.len() - tail);
    }
    let reader = Reader { log, pending, follow: request.follow };
    Ok(Box::pin(stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(None) => None,
            Ok(Some(record)) => Some((Ok(response(record)), Some(reader))),
            Err(error) => Some((Err(failed(&error, "")), None)),
        }
    })))
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Record>, KmsgError> {
        loop {
            if let Some(record) = self.pending.pop_front() {
                return Ok(Some(record));
            }
            if !self.follow {
                return Ok(None);
            }
            self.pending = batch(&self.log)?;
            if self.pending.is_empty() {
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }
}

/// What is there now.
fn batch(log: &KmsgReader) -> Result<VecDeque<Record>, KmsgError> {
    let mut records = VecDeque::new();
    while records.len() < BATCH {
        match log.next()? {
            Next::Record(record) => records.push_back(record),
            // The kernel overwrote what we had not read; what follows is still in order.
            Next::Lost => {}
            Next::Empty => break,
        }
    }
    Ok(records)
}

fn response(record: Record) -> pb::DmesgResponse {
    pb::DmesgResponse {
        sequence: record.sequence,
        time: Some(convert::duration(Duration::from_micros(record.time_us))),
        severity: record.level.into(),
        facility: facility(record.facility),
        message: record.text,
    }
}

/// The syslog name of a facility.
fn facility(number: u32) -> String {
    match number {
        0 => "kern".into(),
        1 => "user".into(),
        3 => "daemon".into(),
        4 => "auth".into(),
        5 => "syslog".into(),
        other => other.to_string(),
    }
}
