//! `pods`: pods and their containers.

mod describe;

use crate::cli::{Pods, PodsCommand};
use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::container::State;
use ingot_api::machine::v1::{Container, ListPodsRequest, ListPodsResponse, Pod};

pub(super) async fn run(session: &Session<'_>, args: &Pods) -> Result<(), Failure> {
    let node = session.connect().await?;
    let mut answer = node
        .call("ListPods", ListPodsRequest {}, async |mut api, request| api.list_pods(request).await)
        .await?;
    if let Some(PodsCommand::Describe { pod }) = &args.command {
        let namespace = args.namespace.as_deref().unwrap_or("default");
        return describe::run(session, &node, answer, namespace, pod).await;
    }
    if let Some(namespace) = &args.namespace {
        answer.pods.retain(|pod| pod.namespace == *namespace);
    }
    session.output.answer("ListPodsResponse", &answer, show)
}

fn show(answer: &ListPodsResponse) -> String {
    let pods = answer.pods.iter().map(|pod| {
        // As kubectl counts: an init container is done or not, but never ready.
        let counted = || pod.containers.iter().filter(|container| container.role != "init");
        let ready = counted().filter(|container| container.ready);
        [
            pod.namespace.clone(),
            pod.name.clone(),
            format!("{}/{}", ready.count(), counted().count()),
            pod.phase.clone(),
            if pod.host_network { "host".to_owned() } else { text::or_dash(&pod.ips.join(",")) },
            text::time(pod.started_at.as_ref()),
            why(&pod.reason, &pod.message),
        ]
    });
    let containers = answer.pods.iter().flat_map(|pod| pod.containers.iter().map(|c| row(pod, c)));
    format!(
        "{}\n{}",
        table(["NAMESPACE", "POD", "READY", "PHASE", "IP", "STARTED", "WHY"], pods.collect()),
        table(
            ["POD", "CONTAINER", "IMAGE", "STATE", "RESTARTS", "SINCE", "WHY"],
            containers.collect()
        ),
    )
}

fn row(pod: &Pod, container: &Container) -> [String; 7] {
    let (state, since) = match container.state() {
        State::Running => ("running", container.started_at.as_ref()),
        State::Terminated => ("ended", container.finished_at.as_ref()),
        State::Waiting => ("waiting", container.finished_at.as_ref()),
        State::Unspecified => ("-", None),
    };
    let mut reason = why(&container.reason, &container.message);
    if let Some(next) = &container.next_start_at {
        reason = format!("{reason}; next start {}", text::time(Some(next)));
    }
    [
        text::pod(&pod.namespace, &pod.name),
        container.name.clone(),
        container.image.clone(),
        state.to_owned(),
        container.restarts.to_string(),
        text::time(since),
        reason,
    ]
}

fn why(reason: &str, message: &str) -> String {
    match (reason, message) {
        (reason, "") => text::or_dash(reason),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}
