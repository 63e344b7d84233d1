//! `service restart`: stops a service and has PID 1 start it again.

use crate::cli::{Format, Service, ServiceCommand};
use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::RestartServiceRequest;

pub(super) async fn run(session: &Session<'_>, args: &Service) -> Result<(), Failure> {
    let ServiceCommand::Restart { name, kill } = &args.command;
    let node = session.connect().await?;
    let message = RestartServiceRequest { name: name.clone(), kill: *kill };
    node.call("RestartService", message, async |mut api, request| {
        api.restart_service(request).await
    })
    .await?;
    if session.output.format == Format::Table {
        session.output.text(&format!("{name} is being restarted\n"))?;
    }
    Ok(())
}
