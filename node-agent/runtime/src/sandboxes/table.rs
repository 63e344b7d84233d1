//! What all sandbox tasks share and readers look at. Locks are held for a lookup or one change, never while anything waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc};

use super::model::{Container, Sandbox};
use super::soon::Soon;
use super::usage::Samples;
use super::{Lifecycle, LifecycleEvent};
use crate::config::SandboxConfig;
use crate::context::Context;
use crate::io::ContainerIo;
use crate::sandbox_task::Command;

/// Events a slow reader may be behind before it loses the oldest.
const EVENTS_MAX: usize = 1024;

/// What makes two requests for a sandbox the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    namespace: String,
    name: String,
    uid: String,
    attempt: u32,
}

impl Key {
    pub(crate) fn of(config: &SandboxConfig) -> Self {
        Self {
            namespace: config.namespace.clone(),
            name: config.name.clone(),
            uid: config.uid.clone(),
            attempt: config.attempt,
        }
    }
}

/// Shared by the tasks and the door.
pub(crate) struct Shared {
    pub(crate) context: Arc<Context>,
    pub(crate) events: broadcast::Sender<LifecycleEvent>,
    /// What was measured before: rates need two looks.
    pub(crate) samples: Samples,
    /// Takes records to the disk.
    pub(crate) soon: Arc<Soon>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    tasks: HashMap<String, mpsc::Sender<Command>>,
    keys: HashMap<Key, String>,
    sandboxes: BTreeMap<String, Arc<Sandbox>>,
    /// Sandbox of each container that readers know.
    owners: BTreeMap<String, String>,
    io: HashMap<String, ContainerIo>,
}

impl Shared {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            events: broadcast::Sender::new(EVENTS_MAX),
            samples: Samples::default(),
            soon: Arc::default(),
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self) -> usize {
        self.table().tasks.len()
    }

    pub(super) fn find_key(&self, key: &Key) -> Option<mpsc::Sender<Command>> {
        let table = self.table();
        table.keys.get(key).and_then(|id| table.tasks.get(id)).cloned()
    }

    pub(super) fn insert(&self, key: Key, id: &str, commands: mpsc::Sender<Command>) {
        let mut table = self.table();
        table.tasks.insert(id.to_owned(), commands);
        table.keys.insert(key, id.to_owned());
    }

    /// The sandbox is gone, or never was.
    pub(crate) fn forget(&self, sandbox: &Sandbox) {
        let mut table = self.table();
        table.tasks.remove(&sandbox.id);
        table.sandboxes.remove(&sandbox.id);
        table.keys.retain(|_, id| *id != sandbox.id);
        table.owners.retain(|_, id| *id != sandbox.id);
    }

    /// Shows a sandbox as it is now.
    pub(crate) fn publish(&self, sandbox: Sandbox) -> Arc<Sandbox> {
        let sandbox = Arc::new(sandbox);
        let mut table = self.table();
        let before = table.sandboxes.insert(sandbox.id.clone(), sandbox.clone());
        let known = |id: &str| sandbox.containers.iter().any(|container| container.id == id);
        for old in before.iter().flat_map(|before| &before.containers) {
            if !known(&old.id) {
                table.owners.remove(&old.id);
            }
        }
        for container in &sandbox.containers {
            table.owners.insert(container.id.clone(), sandbox.id.clone());
        }
        drop(table);
        sandbox
    }

    /// Tells what happened. Nobody listening is fine.
    pub(crate) fn tell(&self, id: &str, what: Lifecycle, sandbox: Arc<Sandbox>) {
        let event = LifecycleEvent { id: id.to_owned(), what, at: Timestamp::now(), sandbox };
        let _ = self.events.send(event);
    }

    /// The streams of a container that runs.
    pub(crate) fn io(&self, id: &str) -> Option<ContainerIo> {
        self.table().io.get(id).cloned()
    }

    pub(crate) fn set_io(&self, id: &str, io: Option<ContainerIo>) -> Option<ContainerIo> {
        match io {
            Some(io) => self.table().io.insert(id.to_owned(), io),
            None => self.table().io.remove(id),
        }
    }

    pub(super) fn task(&self, id: &str) -> Option<mpsc::Sender<Command>> {
        let table = self.table();
        let id = by_prefix(&table.sandboxes, id).map_or(id, |(id, _)| id.as_str());
        table.tasks.get(id).cloned()
    }

    pub(super) fn owner(&self, id: &str) -> Option<mpsc::Sender<Command>> {
        let table = self.table();
        let (_, sandbox) = by_prefix(&table.owners, id)?;
        table.tasks.get(sandbox).cloned()
    }

    pub(super) fn list(&self) -> Vec<Arc<Sandbox>> {
        self.table().sandboxes.values().cloned().collect()
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Sandbox>> {
        let table = self.table();
        by_prefix(&table.sandboxes, id).map(|(_, sandbox)| sandbox.clone())
    }

    pub(super) fn find_container(&self, id: &str) -> Option<(Arc<Sandbox>, Arc<Container>)> {
        let table = self.table();
        let (id, sandbox) = by_prefix(&table.owners, id)?;
        let sandbox = table.sandboxes.get(sandbox)?;
        let container = sandbox.containers.iter().find(|container| container.id == *id)?;
        Some((sandbox.clone(), container.clone()))
    }
}

/// The entry with this id, or the only one whose id begins so.
fn by_prefix<'a, T>(map: &'a BTreeMap<String, T>, id: &str) -> Option<(&'a String, &'a T)> {
    if let Some(exact) = map.get_key_value(id) {
        return Some(exact);
    }
    if id.is_empty() {
        return None;
    }
    let mut fitting = map.range(id.to_owned()..).take_while(|(known, _)| known.starts_with(id));
    fitting.next().filter(|_| fitting.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_means_the_only_one_that_begins_so() {
        let map: BTreeMap<String, u8> =
            [("aa1", 1), ("aa2", 2), ("b", 3)].map(|(k, v)| (k.to_owned(), v)).into();
        assert_eq!(by_prefix(&map, "aa"), None);
        assert_eq!(by_prefix(&map, "aa2").map(|(_, v)| *v), Some(2));
        assert_eq!(by_prefix(&map, "b").map(|(_, v)| *v), Some(3));
        assert_eq!(by_prefix(&map, ""), None);
        assert_eq!(by_prefix(&map, "c"), None);
    }
}
