//! Taking up the sandboxes that a former agent left, before anybody is served.

use std::collections::HashSet;

use tokio::sync::mpsc;

use super::record::{self, RecordError, Records};
use super::table::Key;
use super::{COMMANDS_MAX, Sandbox, SandboxPhase, Sandboxes};
use crate::pid1::Pid1Error;
use crate::report::chain;
use crate::run;
use crate::sandbox_task::{Begin, SandboxTask};

/// Sandboxes that were taken over and do nothing yet.
pub(crate) struct Recovered {
    tasks: Vec<SandboxTask>,
    /// Ids of sandboxes and containers that have a record.
    pub(crate) known: HashSet<String>,
}

impl Recovered {
    /// Lets them go on, once it is known what PID 1 has to tell.
    pub(crate) fn go_on(self) {
        for task in self.tasks {
            tokio::spawn(task.run(Begin::TakenOver));
        }
    }
}

/// Reads all records and watches what runs.
///
/// # Errors
/// When PID 1 does not answer. A record that cannot be read is logged and costs that sandbox.
pub(crate) async fn recover(sandboxes: &Sandboxes) -> Result<Recovered, Pid1Error> {
    let shared = sandboxes.shared();
    let var = shared.context.paths().var.clone();
    let mut recovered = Recovered { tasks: Vec::new(), known: HashSet::new() };
    for id in names(&var) {
        let records = Records::new(&var, &id, &shared.soon);
        let sandbox = match records.load(&id) {
            Ok(Some(sandbox)) => sandbox,
            // Begun and never written down, or removed but for this folder: nothing of it exists.
            Ok(None) => {
                if let Err(error) = records.remove() {
                    tracing::warn!(id, error = chain(&error), "remove empty record");
                }
                continue;
            }
            Err(error) => {
                tracing::error!(id, error = chain(&error), "load sandbox record");
                // One that nobody will ever understand; what is left of the sandbox is then swept as anybody's.
                if !matches!(error, RecordError::Read { .. })
                    && let Err(error) = records.remove()
                {
                    tracing::warn!(id, error = chain(&error), "remove broken record");
                }
                continue;
            }
        };
        let mut task = take_over(sandboxes, sandbox);
        task.adopt().await?;
        recovered.known.extend(task.container_ids().map(str::to_owned));
        recovered.known.insert(id);
        recovered.tasks.push(task);
    }
    Ok(recovered)
}

fn take_over(sandboxes: &Sandboxes, sandbox: Sandbox) -> SandboxTask {
    let shared = sandboxes.shared();
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    // One that never was is found by nobody, so that another can be made in its place.
    if !matches!(sandbox.phase, SandboxPhase::Creating) {
        shared.insert(Key::of(&sandbox.config), &sandbox.id, commands);
    }
    SandboxTask::new(shared.clone(), sandbox, receiver)
}

/// Folders that are named as sandboxes are.
fn names(var: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(record::top(var)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| run::is_id(name)).collect()
}
