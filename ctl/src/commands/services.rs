//! `services`: what PID 1 keeps running.

use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{ListServicesRequest, ListServicesResponse};

pub(super) async fn run(session: &Session<'_>) -> Result<(), Failure> {
    let node = session.connect().await?;
    let answer = node
        .call("ListServices", ListServicesRequest {}, async |mut api, request| {
            api.list_services(request).await
        })
        .await?;
    session.output.answer("ListServicesResponse", &answer, show)
}

fn show(answer: &ListServicesResponse) -> String {
    let rows = answer.services.iter().map(|service| {
        [
            service.name.clone(),
            service.state.clone(),
            if service.pid == 0 { "-".to_owned() } else { service.pid.to_string() },
            text::duration(service.running_for.as_ref()),
            service.restarts.to_string(),
            text::or_dash(&service.last_exit),
        ]
    });
    table(["NAME", "STATE", "PID", "RUNNING FOR", "RESTARTS", "LAST EXIT"], rows.collect())
}
