//! What is kept when a test fails: console, QEMU's words and arguments, the QMP trace, and what the node itself says, in one
//! folder under `target/evidence/`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::Api;
use crate::qemu::qmp::Qmp;

/// The node may be the very thing that hangs.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// The folder for a test of a machine.
pub(crate) fn folder(target: &Path, machine: &str, test: &str) -> PathBuf {
    let name: String = test
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(80)
        .collect();
    target.join("evidence").join(machine).join(name.trim_matches('-'))
}

/// Fills `folder`. What cannot be had is left out: evidence never hides the failure.
pub(crate) async fn keep(
    folder: &Path,
    machine: &Path,
    qmp: Option<&Qmp>,
    api: Option<Api>,
    failure: &str,
) -> anyhow::Result<()> {
    if folder.exists() {
        fs_err::remove_dir_all(folder)?;
    }
    fs_err::create_dir_all(folder)?;
    fs_err::write(folder.join("failure.txt"), format!("{failure}\n"))?;
    for entry in fs_err::read_dir(machine)?.flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".log") || text.ends_with(".txt") {
            let _absent = fs_err::copy(entry.path(), folder.join(&name));
        }
    }
    if let Some(qmp) = qmp {
        qmp.write_trace(&folder.join("qmp.txt"))?;
    }
    if let Some(api) = api {
        ask(folder, api).await?;
    }
    Ok(())
}

async fn ask(folder: &Path, mut api: Api) -> anyhow::Result<()> {
    // One silent call means that the others would be silent too.
    let Ok(Ok(status)) = tokio::time::timeout(ASK_LIMIT, api.status()).await else {
        return Ok(fs_err::write(folder.join("status.txt"), "the API does not answer\n")?);
    };
    fs_err::write(folder.join("status.txt"), format!("{status:#?}\n"))?;
    if let Ok(Ok(pods)) = tokio::time::timeout(ASK_LIMIT, api.pods()).await {
        fs_err::write(folder.join("pods.txt"), format!("{pods:#?}\n"))?;
    }
    if let Ok(Ok(services)) = tokio::time::timeout(ASK_LIMIT, api.services()).await {
        fs_err::write(folder.join("services.txt"), format!("{services:#?}\n"))?;
    }
    if let Ok(Ok(events)) = tokio::time::timeout(ASK_LIMIT, api.events()).await {
        let lines: Vec<String> = events.iter().map(event_line).collect();
        fs_err::write(folder.join("events.txt"), lines.concat())?;
    }
    if let Ok(Ok(records)) = tokio::time::timeout(ASK_LIMIT, api.dmesg()).await {
        let lines: Vec<String> = records.iter().map(record_line).collect();
        fs_err::write(folder.join("dmesg.txt"), lines.concat())?;
    }
    Ok(())
}

fn event_line(event: &ingot_api::machine::v1::Event) -> String {
    let time = event.time.map(|time| time.to_string()).unwrap_or_default();
    format!("{time} {} {} {}: {}\n", event.severity, event.object, event.reason, event.message)
}

fn record_line(record: &ingot_api::machine::v1::DmesgResponse) -> String {
    let time = record.time.unwrap_or_default();
    format!("[{:5}.{:06}] {}\n", time.seconds, time.nanos / 1000, record.message)
}
