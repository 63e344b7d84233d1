//! File descriptors kept by name across restarts of the agent.

use ingot_init_api::{Name, STORED_FDS_MAX};

/// The store, in name order.
#[derive(Debug)]
pub(crate) struct Store<F> {
    entries: Vec<(Name, F)>,
}

impl<F> Store<F> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::with_capacity(STORED_FDS_MAX) }
    }

    /// Keeps it, in place of one of the same name; `false` when the store is full.
    pub(super) fn put(&mut self, name: Name, fd: F) -> bool {
        match self.find(&name) {
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.1 = fd;
                }
            }
            Err(_) if self.entries.len() >= STORED_FDS_MAX => return false,
            Err(at) => self.entries.insert(at, (name, fd)),
        }
        true
    }

    pub(super) fn get(&self, name: &Name) -> Option<&F> {
        self.find(name).ok().and_then(|at| self.entries.get(at)).map(|(_, fd)| fd)
    }

    pub(super) fn drop_named(&mut self, name: &Name) {
        if let Ok(at) = self.find(name) {
            self.entries.remove(at);
        }
    }

    pub(super) fn name_at(&self, index: u32) -> Option<Name> {
        self.entries.get(usize::try_from(index).ok()?).map(|(name, _)| *name)
    }

    /// How many are stored.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn find(&self, name: &Name) -> Result<usize, usize> {
        self.entries.binary_search_by(|(stored, _)| stored.cmp(name))
    }
}
