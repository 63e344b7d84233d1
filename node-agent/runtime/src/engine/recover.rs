//! Taking up where a former agent stopped, before anybody is served. Reads a few small files per pod, so it is quick; what
//! can wait (leftovers that no record names) is swept afterwards.

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::PoisonError;

use tokio::sync::mpsc;

use super::{COMMANDS_MAX, Engine, EngineError, Paths};
use crate::container::{self, skeleton};
use crate::context::Context;
use crate::pod_task::{PodTask, host_ports};
use crate::record::PodRecord;
use crate::report::chain;
use crate::sandboxes;

/// Adopts every pod that is on disk, then sweeps.
pub(super) async fn recover(engine: &Engine) -> Result<(), EngineError> {
    let context = &engine.context;
    let paths = context.paths();
    make_folders(paths)?;
    let loaded = {
        let folder = paths.var.join("pods");
        // The runtime is going away with the agent.
        tokio::task::spawn_blocking(move || load_all(&folder)).await.unwrap_or_default()
    };
    let Loaded { mut records, unreadable } = loaded;
    // Whoever asks first is built first.
    records.sort_by_key(|record| std::cmp::Reverse(record.pod.priority()));
    for record in &records {
        let current = record.sandbox.as_ref().filter(|s| s.boot_id == context.boot_id);
        let Some(sandbox) = current else { continue };
        if let Some(first) = sandbox.first_user_id {
            context.user_ids.adopt(&record.pod.uid, first);
        }
        if !record.pod.spec.host_network {
            // A sandbox that was not finished may have been refused its ports; they are somebody else's, be it the API's.
            let ports = if sandbox.ready { host_ports(&record.pod) } else { Vec::new() };
            context.network.adopt(&record.pod.uid, &sandbox.ips, &ports);
        }
    }
    let sandboxes = sandboxes::recover(&engine.sandboxes).await?;
    context.network.resume().await;
    let mut known: HashSet<String> = sandboxes.known.clone();
    let mut tasks = Vec::new();
    let leftovers = leftover_pods(context, &records, &known, unreadable);
    for record in records.into_iter().chain(leftovers) {
        known.extend(record.containers.iter().filter_map(|c| c.run.as_ref()).map(|r| r.id.clone()));
        let uid = record.pod.uid.clone();
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let mut task = PodTask::new(context.clone(), record, 0, receiver);
        task.adopt().await?;
        engine.pods.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, commands);
        tasks.push(task);
    }
    context.pid1.replay_exits().await?;
    let leftovers = leftover_containers(context, &known).await?;
    for task in tasks {
        tokio::spawn(task.run());
    }
    sandboxes.go_on();
    let killed = crate::exec::sweep(context);
    // Exits that no container waits for: their ends are recorded, only the acknowledgement was cut off.
    let count = context.pid1.acknowledge_unclaimed().await?;
    tracing::info!(
        adopted = known.len(),
        acknowledged = count,
        leftovers = leftovers.len(),
        killed,
        "recovered"
    );
    tokio::spawn(sweep(context.clone(), leftovers));
    // Everybody holds the images of what runs by now.
    let images = context.images().clone();
    tokio::spawn(async move {
        if let Err(error) = images.gc().await {
            tracing::warn!(error = chain(&error), "let go of unused layers");
        }
    });
    Ok(())
}

/// The folders everything lies in.
fn make_folders(paths: &Paths) -> Result<(), EngineError> {
    let run = ["pods", "containers", "runc"].map(|name| paths.run.join(name));
    let var = ["pods", "containers", "sandboxes"].map(|name| paths.var.join(name));
    for folder in run.iter().chain(&var).chain([&paths.logs]) {
        std::fs::create_dir_all(folder)
            .map_err(|source| EngineError::CreateFolder { path: folder.clone(), source })?;
    }
    skeleton::make(&skeleton::folder(paths))
        .map_err(|source| EngineError::CreateFolder { path: skeleton::folder(paths), source })?;
    for folder in &run {
        // A container with user ids of its own has its root below here and must get to it; nobody else's name is its business.
        std::fs::set_permissions(folder, Permissions::from_mode(0o711))
            .map_err(|source| EngineError::CreateFolder { path: folder.clone(), source })?;
    }
    Ok(())
}

/// What is on disk about pods.
#[derive(Default)]
struct Loaded {
    records: Vec<PodRecord>,
    /// Names of pods whose records cannot be used.
    unreadable: Vec<String>,
}

fn load_all(folder: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    for name in names_in(folder) {
        match PodRecord::load(&folder.join(&name)) {
            Ok(Some(record)) if record.pod.uid == name => loaded.records.push(record),
            Ok(Some(_)) => {
                tracing::error!(name, "record of another pod; the pod is made anew");
                loaded.unreadable.push(name);
            }
            // Begun and never written down, or removed but for this folder: nothing of the pod exists.
            Ok(None) => {
                if let Err(error) = std::fs::remove_dir_all(folder.join(&name)) {
                    tracing::warn!(%error, name, "remove folder without a record");
                }
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "load pod record; the pod is made anew");
                loaded.unreadable.push(name);
            }
        }
    }
    loaded
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Containers of which something is left, and that no record names: pairs of pod uid (may be empty) and id.
async fn leftover_containers(
    context: &Context,
    known: &HashSet<String>,
) -> Result<HashSet<(String, String)>, EngineError> {
    let paths = context.paths();
    let mut found = HashSet::new();
    let mut note = |uid: &str, id: &str| {
        // Only what is named as we name containers; anything else is not ours to remove.
        if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) && !known.contains(id) {
            found.insert((uid.to_owned(), id.to_owned()));
        }
    };
    for folder in
        [paths.var.join("containers"), paths.run.join("containers"), paths.run.join("runc")]
    {
        names_in(&folder).iter().for_each(|id| note("", id));
    }
    for uid in names_in(&paths.cgroup.join("pods")) {
        names_in(&paths.cgroup.join("pods").join(&uid)).iter().for_each(|id| note(&uid, id));
    }
    for name in context.pid1.stored_names().await? {
        if let Some((id, _)) = name.as_str().split_once('.') {
            note("", id);
        }
    }
    Ok(found)
}

/// Pods of which something is left in this boot, and that no record names, and those whose records cannot be used: each as a
/// pod that is to be removed. Should the config ask for one again, it comes in its place.
fn leftover_pods(
    context: &Context,
    records: &[PodRecord],
    sandboxes: &HashSet<String>,
    unreadable: Vec<String>,
) -> Vec<PodRecord> {
    let paths = context.paths();
    let groups = paths.cgroup.join("pods");
    // Beside the groups of pods there are files.
    let in_cgroups = names_in(&groups).into_iter().filter(|name| groups.join(name).is_dir());
    let mut all = names_in(&paths.run.join("pods"));
    all.extend(in_cgroups);
    all.extend(unreadable);
    all.sort_unstable();
    all.dedup();
    let has_owner = |uid: &String| {
        sandboxes.contains(uid) || records.iter().any(|record| record.pod.uid == **uid)
    };
    all.retain(|uid| crate::pod::is_safe_name(uid) && !has_owner(uid));
    all.into_iter().map(PodRecord::leftover).collect()
}

async fn sweep(context: std::sync::Arc<Context>, leftovers: HashSet<(String, String)>) {
    for (uid, id) in leftovers {
        let result = container::sweep(&context, &uid, &id).await;
        if let Err(error) = result {
            tracing::warn!(id, error = chain(&error), "remove leftover container");
        }
    }
}
