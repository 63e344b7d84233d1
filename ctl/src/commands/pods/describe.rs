//! `pods describe`: everything about one pod, as `kubectl describe` would tell it.

use super::why;
use crate::client::Node;
use crate::failure::{Exit, Failure};
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::container::State;
use ingot_api::machine::v1::{
    Container, ContainerExit, Event, EventsRequest, ListPodsResponse, Pod,
};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

pub(super) async fn run(
    session: &Session<'_>,
    node: &Node,
    answer: ListPodsResponse,
    namespace: &str,
    name: &str,
) -> Result<(), Failure> {
    let mut pods = answer.pods.into_iter();
    let Some(pod) = pods.find(|pod| pod.namespace == namespace && pod.name == name) else {
        let message = format!("there is no pod {}", text::pod(namespace, name));
        return Err(Failure::new(Exit::Failed, message).hint("`ingotctl pods` lists them"));
    };
    let request = EventsRequest { follow: false, tail: 0 };
    let mut stream = node
        .stream("Events", false, request, async |mut api, request| api.events(request).await)
        .await?;
    let mut events = Vec::new();
    while let Some(event) = stream.next().await? {
        if is_about(&event, &pod) {
            events.push(event);
        }
    }
    session.output.answer("Pod", &pod, |pod| show(pod, &events))
}

/// Events of the pod itself and of its containers.
fn is_about(event: &Event, pod: &Pod) -> bool {
    let own = format!("pod/{}/{}", pod.namespace, pod.name);
    let containers = format!("container/{}/{}/", pod.namespace, pod.name);
    event.object == own || event.object.starts_with(&containers)
}

fn show(pod: &Pod, events: &[Event]) -> String {
    let mut out = String::new();
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    let address = if pod.host_network { "the node's".to_owned() } else { pod.ips.join(", ") };
    for (field, value) in [
        ("Name", pod.name.clone()),
        ("Namespace", pod.namespace.clone()),
        ("UID", pod.uid.clone()),
        ("Asked for by", pod.source.clone()),
        ("Created", text::time(pod.created_at.as_ref())),
        ("Labels", or_none(pairs(&pod.labels).join("\n"))),
        ("Annotations", or_none(pairs(&pod.annotations).join("\n"))),
        ("Status", pod.phase.clone()),
        ("Reason", pod.reason.clone()),
        ("Message", pod.message.clone()),
        ("IP", or_none(address)),
        ("Priority", pod.priority.to_string()),
        ("QoS class", pod.qos_class.clone()),
        ("Restart policy", pod.restart_policy.clone()),
    ] {
        if !value.is_empty() {
            line(&mut out, 0, field, &value);
        }
    }
    for (title, is_init) in [("Init containers", true), ("Containers", false)] {
        let mut group =
            pod.containers.iter().filter(|c| (c.role != "container") == is_init).peekable();
        if group.peek().is_some() {
            line(&mut out, 0, title, "");
        }
        group.for_each(|container| one(&mut out, container));
    }
    line(&mut out, 0, "Conditions", "");
    let conditions = pod.conditions.iter().map(|condition| {
        let status = if condition.status { "True" } else { "False" };
        [
            format!("  {}", condition.name),
            status.to_owned(),
            text::time(condition.since.as_ref()),
            why(&condition.reason, &condition.message),
        ]
    });
    out.push_str(&table(["  TYPE", "STATUS", "SINCE", "WHY"], conditions.collect()));
    out.push('\n');
    if !pod.volumes.is_empty() {
        line(&mut out, 0, "Volumes", "");
    }
    for volume in &pod.volumes {
        line(&mut out, 2, &volume.name, &volume.source);
    }
    line(&mut out, 0, "Events", if events.is_empty() { "<none>" } else { "" });
    if !events.is_empty() {
        let head = ["  SEVERITY", "REASON", "LAST", "COUNT", "ABOUT", "MESSAGE"];
        out.push_str(&table(head, counted(events)));
    }
    out
}

fn one(out: &mut String, container: &Container) {
    line(out, 2, &container.name, "");
    let role = if container.role == "sidecar" { "sidecar, beside the containers" } else { "" };
    let state = match container.state() {
        State::Running => "Running".to_owned(),
        State::Terminated => "Terminated".to_owned(),
        State::Waiting => "Waiting".to_owned(),
        State::Unspecified => "-".to_owned(),
    };
    let reason = match (container.reason.as_str(), container.message.as_str()) {
        ("", "") => String::new(),
        (reason, message) => why(reason, message),
    };
    let started = container.started_at.as_ref().filter(|_| container.state() == State::Running);
    let next = container.next_start_at.as_ref().map(|at| text::time(Some(at)));
    let pid = if container.pid > 0 { container.pid.to_string() } else { String::new() };
    for (field, value) in [
        ("Role", role.to_owned()),
        ("Container ID", container.id.clone()),
        ("Image", container.image.clone()),
        ("Image ID", container.image_id.clone()),
        ("Ports", container.ports.join("\n")),
        ("Command", container.command.join(" ")),
        ("Args", container.args.join(" ")),
        ("State", state),
        ("Reason", reason),
        ("Next start", next.unwrap_or_default()),
        ("Process", pid),
        ("Since", started.map(|at| text::time(Some(at))).unwrap_or_default()),
        ("Last state", container.history.last().map(last_state).unwrap_or_default()),
        ("Ready", if container.ready { "True" } else { "False" }.to_owned()),
        ("Started", if container.started { "True" } else { "False" }.to_owned()),
        ("Restarts", container.restarts.to_string()),
        ("Limits", pairs(&container.limits).join(", ")),
        ("Requests", pairs(&container.requests).join(", ")),
        ("Probes", container.probes.join("\n")),
        ("Environment", container.environment.join("\n")),
        ("Mounts", container.mounts.join("\n")),
    ] {
        if !value.is_empty() {
            line(out, 4, field, &value);
        }
    }
}

/// How the last run that ended did.
fn last_state(exit: &ContainerExit) -> String {
    let mut text = format!("Terminated, {}, exit code {}", exit.reason, exit.exit_code);
    if exit.signal != 0 {
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, ", signal {}", exit.signal);
    }
    let _ = write!(
        text,
        "\n{} to {}",
        self::text::time(exit.started_at.as_ref()),
        self::text::time(exit.finished_at.as_ref())
    );
    if !exit.message.is_empty() {
        let _ = write!(text, "\n{}", exit.message.trim_end());
    }
    text
}

/// Width of the names of fields, as far as they reach.
const WIDTH: usize = 18;

/// A field and its value; further lines of the value stand below the first.
fn line(out: &mut String, indent: usize, field: &str, value: &str) {
    let mut lines = value.lines();
    let width = WIDTH.saturating_sub(indent);
    let first = lines.next().unwrap_or_default();
    let text = format!("{:indent$}{:width$}{first}", "", format!("{field}: "));
    out.push_str(text.trim_end());
    out.push('\n');
    for more in lines {
        let _ = writeln!(out, "{:indent$}{:width$}{more}", "", "");
    }
}

fn pairs(map: &HashMap<String, String>) -> Vec<String> {
    let sorted: BTreeMap<_, _> = map.iter().collect();
    sorted.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Events that say the same, once, with the time of the last and their number.
fn counted(events: &[Event]) -> Vec<[String; 6]> {
    let mut seen: Vec<(&Event, u32)> = Vec::new();
    for event in events {
        let same = |(other, _): &&mut (&Event, u32)| {
            (&other.object, &other.reason, &other.message)
                == (&event.object, &event.reason, &event.message)
        };
        match seen.iter_mut().find(same) {
            Some((last, count)) => {
                *last = event;
                *count += 1;
            }
            None => seen.push((event, 1)),
        }
    }
    seen.sort_by_key(|(event, _)| event.sequence);
    let about = |object: &str| object.rsplit('/').next().unwrap_or_default().to_owned();
    seen.into_iter()
        .map(|(event, count)| {
            [
                format!("  {}", event.severity),
                event.reason.clone(),
                text::time(event.time.as_ref()),
                count.to_string(),
                about(&event.object),
                event.message.clone(),
            ]
        })
        .collect()
}
