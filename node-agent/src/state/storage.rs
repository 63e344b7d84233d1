//! Whether STATE and VAR are there, for everything that has to wait for them. Written by the storage controller only.

use std::sync::Arc;
use tokio::sync::watch;

/// How far a volume is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum VolumeState {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It is being made, so there is nothing on it.
    Creating,
    /// It is there.
    Mounted,
    /// It cannot be used, and why.
    Failed(String),
}

/// Both volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volumes {
    /// Config and identity.
    pub(crate) state: VolumeState,
    /// Everything else that is written.
    pub(crate) var: VolumeState,
}

/// The shared picture; cheap to clone.
#[derive(Clone)]
pub(crate) struct StorageCell {
    cell: Arc<watch::Sender<Volumes>>,
}

impl StorageCell {
    /// Nothing known.
    pub(crate) fn new() -> Self {
        Self { cell: Arc::new(watch::Sender::new(Volumes::default())) }
    }

    /// The picture now.
    pub(crate) fn get(&self) -> Volumes {
        self.cell.borrow().clone()
    }

    /// Replaces it; wakes readers only when it is another one.
    pub(crate) fn publish(&self, volumes: Volumes) {
        self.cell.send_if_modified(|old| {
            let changed = *old != volumes;
            *old = volumes;
            changed
        });
    }

    /// Wakes its holder at each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Volumes> {
        self.cell.subscribe()
    }
}

/// Something that becomes true once.
#[derive(Clone)]
pub(crate) struct Flag {
    cell: Arc<watch::Sender<bool>>,
}

impl Flag {
    /// Not yet.
    pub(crate) fn new() -> Self {
        Self { cell: Arc::new(watch::Sender::new(false)) }
    }

    /// From now on.
    pub(crate) fn raise(&self) {
        self.cell.send_replace(true);
    }

    /// Returns when it is true.
    pub(crate) async fn raised(&self) {
        // The sender lives in `self`, so this ends only when it is true.
        let _ = self.cell.subscribe().wait_for(|raised| *raised).await;
    }
}
