//! What happens to containers, as it happens.

use futures::stream;
use ingot_runtime::sandboxes::{Lifecycle, LifecycleEvent};
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use super::Pieces;
use crate::server::Parts;
use crate::{show, v1};

pub(super) async fn stream(
    parts: &Parts,
    _: v1::GetEventsRequest,
) -> Result<Pieces<v1::ContainerEventResponse>, Status> {
    let events = Some(parts.sandboxes.subscribe());
    let next = |events: Option<tokio::sync::broadcast::Receiver<LifecycleEvent>>| async move {
        let mut events = events?;
        match events.recv().await {
            Ok(event) => Some((Ok(response(&event)), Some(events))),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(count)) => {
                let message =
                    format!("{count} events were lost because they were not read; list again");
                Some((Err(Status::data_loss(message)), None))
            }
        }
    };
    Ok(Box::pin(stream::unfold(events, next)))
}

fn response(event: &LifecycleEvent) -> v1::ContainerEventResponse {
    let kind = match event.what {
        Lifecycle::Created => v1::ContainerEventType::ContainerCreatedEvent,
        Lifecycle::Started => v1::ContainerEventType::ContainerStartedEvent,
        Lifecycle::Stopped => v1::ContainerEventType::ContainerStoppedEvent,
        Lifecycle::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
    };
    let containers = event.sandbox.containers.iter();
    v1::ContainerEventResponse {
        container_id: event.id.clone(),
        container_event_type: kind.into(),
        created_at: show::nanoseconds(Some(event.at)),
        pod_sandbox_status: Some(show::sandbox_status(&event.sandbox)),
        containers_statuses: containers.map(|c| show::container_status(c)).collect(),
    }
}
