//! `shutdown`: has the node stop everything in order and power off.

use crate::cli::{Format, Shutdown};
use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::ShutdownRequest;

pub(super) async fn run(session: &Session<'_>, args: &Shutdown) -> Result<(), Failure> {
    let node = session.connect().await?;
    let grace = args.grace.and_then(|grace| grace.try_into().ok());
    node.call("Shutdown", ShutdownRequest { grace }, async |mut api, request| {
        api.shutdown(request).await
    })
    .await?;
    if session.output.format == Format::Table {
        session.output.text(&format!("{} shuts down\n", node.endpoint()))?;
    }
    Ok(())
}
