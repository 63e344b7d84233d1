//! `health`: what of the cluster is up, and what is waited for.

use crate::cli::Health;
use crate::failure::{Exit, Failure};
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{HealthRequest, HealthResponse};
use std::time::{Duration, Instant};

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn run(session: &Session<'_>, args: &Health) -> Result<(), Failure> {
    let node = session.connect().await?;
    let end = Instant::now() + args.wait.unwrap_or_default();
    let answer = loop {
        let answer = node
            .call("Health", HealthRequest {}, async |mut api, request| api.health(request).await)
            .await?;
        if missing(&answer).is_empty() || Instant::now() + PAUSE > end {
            break answer;
        }
        tokio::time::sleep(PAUSE).await;
    };
    session.output.answer("HealthResponse", &answer, show)?;
    let missing = missing(&answer);
    if missing.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Failed, format!("not up: {}", missing.join(", ")));
    Err(failure.hint("wait for it: ingotctl health --wait 5m"))
}

fn missing(answer: &HealthResponse) -> Vec<&str> {
    let parts = answer.parts.iter().filter(|part| part.state != "ok");
    parts.map(|part| part.name.as_str()).collect()
}

fn show(answer: &HealthResponse) -> String {
    let rows = answer.parts.iter().map(|part| {
        [
            part.name.clone(),
            part.state.clone(),
            text::time(part.since.as_ref()),
            text::printable(&part.message).into_owned(),
        ]
    });
    table(["PART", "STATE", "RUNS SINCE", "MESSAGE"], rows.collect())
}
