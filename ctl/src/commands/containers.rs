//! `containers`: containers of all pods, whoever asked for them.

use crate::cli::Containers;
use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{ListContainersRequest, ListContainersResponse, RunningContainer};

/// Digits of an id that are shown: enough to tell containers of a node apart, as elsewhere.
const ID_SHOWN: usize = 13;

pub(super) async fn run(session: &Session<'_>, args: &Containers) -> Result<(), Failure> {
    let node = session.connect().await?;
    let mut answer = node
        .call("ListContainers", ListContainersRequest {}, async |mut api, request| {
            api.list_containers(request).await
        })
        .await?;
    answer.containers.retain(|container| {
        args.namespace.as_ref().is_none_or(|namespace| container.namespace == *namespace)
            && args.source.as_ref().is_none_or(|source| container.source == *source)
            && (args.all || container.state != "ended")
    });
    session.output.answer("ListContainersResponse", &answer, show)
}

fn show(answer: &ListContainersResponse) -> String {
    let headings =
        ["ID", "SOURCE", "NAMESPACE", "POD", "CONTAINER", "STATE", "RESTARTS", "SINCE", "IMAGE"];
    table(headings, answer.containers.iter().map(row).collect())
}

fn row(container: &RunningContainer) -> [String; 9] {
    let state = match container.state.as_str() {
        "ended" => format!("ended ({})", container.exit_code),
        state => state.to_owned(),
    };
    [
        text::or_dash(&container.id.chars().take(ID_SHOWN).collect::<String>()),
        container.source.clone(),
        container.namespace.clone(),
        container.pod.clone(),
        container.container.clone(),
        state,
        container.restarts.to_string(),
        text::time(container.started_at.as_ref()),
        container.image.clone(),
    ]
}
