//! The ordered end of the machine: asking PID 1 for it, and the agent's own part, which is stopping the pods in time.

use crate::kubernetes::{Kubernetes, leaving};
use crate::pods::Pods;
use crate::report;
use crate::state::{Severity, State};
use ingot_init_api::End;
use ingot_runtime::Pid1;
use ingot_runtime::pid1::Pid1Error;
use std::time::Duration;

/// How long pods get when nobody says otherwise.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// Longest grace accepted.
pub(crate) const GRACE_MAX: Duration = Duration::from_secs(3600);
/// Kept of the grace for telling PID 1 that all is done.
const MARGIN: Duration = Duration::from_secs(1);

/// Asks PID 1 to end the machine.
///
/// # Errors
/// When it refuses or does not answer.
pub(crate) async fn end(
    state: &State,
    pid1: &Pid1,
    how: End,
    grace: Duration,
) -> Result<(), Pid1Error> {
    pid1.end_machine(how, grace).await?;
    let message = format!("{how:?} requested, pods get {} s", grace.as_secs());
    state.events.record(Severity::Info, "Stopping", "node", message);
    Ok(())
}

/// Waits for the end of the machine, then stops all pods and says so. Ends only when PID 1 does.
pub(crate) async fn watch(state: State, pods: Pods, kubernetes: Kubernetes) {
    let mut connected = pods.subscribe_pid1();
    let pid1 = match connected.wait_for(Option::is_some).await.map(|pid1| pid1.clone()) {
        Ok(Some(pid1)) => pid1,
        _ => return,
    };
    let mut stopping = pid1.stopping();
    let Ok(Some(stop)) = stopping.wait_for(Option::is_some).await.map(|stop| *stop) else {
        return;
    };
    state.set_stopping();
    tracing::info!("stopping pods: {:?} within {} s", stop.how, stop.grace.as_secs());
    let begin = tokio::time::Instant::now();
    // An agent that was restarted a moment ago has not taken over its pods yet; they have a right to their grace. Without a
    // config there are none.
    let limit = if state.desired.config().is_some() { stop.grace / 2 } else { Duration::ZERO };
    if let Ok(engine) = pods.engine_within(limit).await {
        let left = || stop.grace.saturating_sub(begin.elapsed()).saturating_sub(MARGIN);
        Box::pin(leaving::leave(&kubernetes, &engine, left())).await;
        engine.stop_all(left()).await;
    }
    if let Err(error) = pid1.ready_to_end().await {
        tracing::warn!("PID 1 will wait out the grace: {}", report::chain(&error));
    }
}
