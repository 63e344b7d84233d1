//! `reboot`: has the node stop everything in order and start again.

use crate::cli::{Format, Reboot};
use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::RebootRequest;

pub(super) async fn run(session: &Session<'_>, args: &Reboot) -> Result<(), Failure> {
    let node = session.connect().await?;
    let grace = args.grace.and_then(|grace| grace.try_into().ok());
    node.call("Reboot", RebootRequest { grace }, async |mut api, request| {
        api.reboot(request).await
    })
    .await?;
    if session.output.format == Format::Table {
        session.output.text(&format!("{} reboots\n", node.endpoint()))?;
    }
    Ok(())
}
