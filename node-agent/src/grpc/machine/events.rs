//! `Events`: what happened, and with `follow` what happens.

use super::Messages;
use crate::grpc::{Api, convert};
use crate::state::Events;
use crate::state::events::Event;
use futures::stream;
use ingot_api::machine::v1 as pb;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::Status;

/// Where a reader is.
struct Reader {
    events: Events,
    newest: watch::Receiver<u64>,
    next: u64,
    pending: VecDeque<Arc<Event>>,
    follow: bool,
}

pub(super) async fn call(
    api: &Api,
    request: pb::EventsRequest,
) -> Result<Messages<pb::Event>, Status> {
    let events = api.state.events.clone();
    let reader = Reader {
        newest: events.subscribe(),
        next: events.tail(request.tail.try_into().unwrap_or(usize::MAX)),
        events,
        pending: VecDeque::new(),
        follow: request.follow,
    };
    Ok(Box::pin(stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(response(&event)), reader))
    })))
}

impl Reader {
    async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            // Marked seen before reading, so that an event that comes in between wakes the wait below.
            self.newest.borrow_and_update();
            self.pending = self.events.since(self.next).into();
            if let Some(newest) = self.pending.back() {
                self.next = newest.sequence + 1;
            } else if !self.follow || self.newest.changed().await.is_err() {
                return None;
            }
        }
    }
}

fn response(event: &Event) -> pb::Event {
    pb::Event {
        sequence: event.sequence,
        time: Some(convert::timestamp(event.time)),
        reason: event.reason.to_owned(),
        severity: event.severity.name().to_owned(),
        object: event.object.clone(),
        message: event.message.clone(),
    }
}
