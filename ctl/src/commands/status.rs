//! `status`: the state of the node, what is waited for first.

use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{Condition, Stage, StatusResponse, condition};

pub(super) async fn run(session: &Session<'_>) -> Result<(), Failure> {
    let answer = session.connect().await?.status().await?;
    session.output.answer("StatusResponse", &answer, show)
}

fn show(status: &StatusResponse) -> String {
    let mut sections = vec![node(status), conditions(&status.conditions)];
    if !status.links.is_empty() {
        sections.push(links(status));
    }
    if !status.volumes.is_empty() {
        sections.push(volumes(status));
    }
    sections.join("\n")
}

fn node(status: &StatusResponse) -> String {
    let root = status.root.as_ref().map_or_else(
        || "-".to_owned(),
        |root| {
            let mode = if root.read_only { "read-only" } else { "WRITABLE" };
            let slot = text::or_dash(&root.slot);
            format!("{}, {mode}, slot {slot}, {} on corruption", root.verity, root.on_corruption)
        },
    );
    let memory = status.memory.as_ref().map_or_else(
        || "-".to_owned(),
        |memory| {
            let (free, total) =
                (text::bytes(memory.available_bytes), text::bytes(memory.total_bytes));
            format!("{free} available of {total}")
        },
    );
    let clock = if status.time_synchronized { "synchronized" } else { "not synchronized" };
    let rows = [
        ("node", text::or_dash(&status.node_name)),
        ("stage", stage(status.stage()).to_owned()),
        ("generation", status.generation.to_string()),
        ("uptime", text::duration(status.uptime.as_ref())),
        ("time", format!("{}, {clock}", text::time(status.now.as_ref()))),
        ("root", root),
        ("memory", memory),
        ("certificate", text::or_dash(&status.certificate_fingerprint)),
        ("boot", text::or_dash(&status.boot_id)),
    ];
    rows.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}

fn conditions(conditions: &[Condition]) -> String {
    let rows = conditions.iter().map(|condition| {
        [
            condition.name.clone(),
            state(condition.state()).to_owned(),
            text::time(condition.since.as_ref()),
            text::time(condition.deadline.as_ref()),
            text::or_dash(&condition.message),
        ]
    });
    table(["CONDITION", "STATE", "SINCE", "UNTIL", "MESSAGE"], rows.collect())
}

fn links(status: &StatusResponse) -> String {
    let rows = status.links.iter().map(|link| {
        [
            link.name.clone(),
            if link.up { "up" } else { "down" }.to_owned(),
            text::or_dash(&link.mac),
            link.mtu.to_string(),
            text::or_dash(&link.addresses.join(", ")),
        ]
    });
    table(["LINK", "STATE", "MAC", "MTU", "ADDRESSES"], rows.collect())
}

fn volumes(status: &StatusResponse) -> String {
    let rows = status.volumes.iter().map(|volume| {
        [
            volume.name.clone(),
            volume.device.clone(),
            volume.mount_point.clone(),
            text::bytes(volume.size_bytes),
            text::bytes(volume.available_bytes),
        ]
    });
    table(["VOLUME", "DEVICE", "MOUNTED AT", "SIZE", "AVAILABLE"], rows.collect())
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Booting => "booting",
        Stage::Maintenance => "maintenance",
        Stage::Configuring => "configuring",
        Stage::Running => "running",
        Stage::Degraded => "degraded",
        Stage::Stopping => "stopping",
        Stage::Unspecified => "-",
    }
}

fn state(state: condition::State) -> &'static str {
    match state {
        condition::State::Ok => "ok",
        condition::State::Waiting => "waiting",
        condition::State::Failed => "failed",
        condition::State::Unspecified => "-",
    }
}
