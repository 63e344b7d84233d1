//! Waiting for something to become true, with a deadline and a name. Level-triggered: a condition is asked again and again,
//! never "did it change". Every wait of a test goes through here; a bare sleep is a flake.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// How often a condition is asked. Short against everything that is waited for, long against one API call in emulation.
const INTERVAL: Duration = Duration::from_millis(200);

/// Asks `condition` until it answers `Some`, and returns that. The error after `limit` names `what` and the last thing the
/// condition complained of.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    condition: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    until_every(what, limit, INTERVAL, condition).await
}

/// The same for what is waited for thousands of times and takes less than the usual time between two questions.
pub async fn until_every<T>(
    what: &str,
    limit: Duration,
    interval: Duration,
    mut condition: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    let mut complaint = String::from("it was never true");
    loop {
        // One question may itself hang, e.g. on a connection to a machine that just lost power.
        match tokio::time::timeout_at(deadline, condition()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => complaint = format!("last error: {error:#}"),
            Err(_) => {
                complaint = format!("the question was not answered in time; before: {complaint}")
            }
        }
        if Instant::now() + interval > deadline {
            bail!("waited {} s for {what}: {complaint}", limit.as_secs());
        }
        tokio::time::sleep(interval).await;
    }
}
