//! `events`: what happened on the node.

use crate::cli::Events;
use crate::failure::Failure;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{Event, EventsRequest};

pub(super) async fn run(session: &Session<'_>, args: &Events) -> Result<(), Failure> {
    let node = session.connect().await?;
    let message = EventsRequest { follow: args.follow, tail: args.tail.unwrap_or(0) };
    let mut events = node
        .stream("Events", args.follow, message, async |mut api, request| api.events(request).await)
        .await?;
    while let Some(event) = events.next().await? {
        session.output.item("Event", &event, line)?;
    }
    Ok(())
}

fn line(event: &Event) -> String {
    format!(
        "{}  {:7}  {}  {}: {}\n",
        text::time(event.time.as_ref()),
        event.severity,
        event.object,
        event.reason,
        event.message
    )
}
