//! Where everything meets: what is wished for, what was observed, what happened. Controllers, RPCs and the console know
//! only this, never each other.

pub(crate) mod desired;
pub(crate) mod events;
pub(crate) mod identity;
pub(crate) mod ledger;
pub(crate) mod observed;
pub(crate) mod storage;

pub(crate) use desired::{Desired, DesiredConfig};
pub(crate) use events::{Events, Severity};
pub(crate) use identity::{IdentityCell, ServerIdentity};
pub(crate) use observed::{Condition, ConditionState, Observed, Volume};
pub(crate) use storage::{Flag, StorageCell, VolumeState};

use std::sync::Arc;
use tokio::sync::watch;

/// All of it; cheap to clone.
#[derive(Clone)]
pub(crate) struct State {
    /// What is wished for.
    pub(crate) desired: Desired,
    /// What the controllers last saw.
    pub(crate) observed: Observed,
    /// What happened.
    pub(crate) events: Events,
    /// Which certificate the API shows.
    pub(crate) identity: IdentityCell,
    /// Whether STATE and VAR are there.
    pub(crate) storage: StorageCell,
    /// The first search for hardware is over.
    pub(crate) coldplug: Flag,
    stopping: Arc<watch::Sender<bool>>,
}

impl State {
    /// Nothing wished for, nothing observed.
    pub(crate) fn new() -> Self {
        Self {
            desired: Desired::new(),
            observed: Observed::new(),
            events: Events::new(),
            identity: IdentityCell::new(),
            storage: StorageCell::new(),
            coldplug: Flag::new(),
            stopping: Arc::new(watch::Sender::new(false)),
        }
    }

    /// The machine is about to end.
    pub(crate) fn set_stopping(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the machine is about to end.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// The stage of the node's life, from everything else.
    pub(crate) fn stage(&self) -> Stage {
        if self.is_stopping() {
            return Stage::Stopping;
        }
        let generation = match &*self.desired.borrow() {
            desired::Wish::Unknown => return Stage::Booting,
            desired::Wish::Nothing => return Stage::Maintenance,
            desired::Wish::Config(config) => config.generation,
        };
        stage(generation, &self.observed.conditions())
    }
}

/// Stages of a node's life, as the API and the console show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The agent starts and does not know yet whether there is a config.
    Booting,
    /// No config: waits for one.
    Maintenance,
    /// A config is being made true.
    Configuring,
    /// Everything in the config is true.
    Running,
    /// Something in the config could not be made true.
    Degraded,
    /// The machine ends.
    Stopping,
}

impl Stage {
    /// Lower-case word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Maintenance => "maintenance",
            Self::Configuring => "configuring",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
        }
    }
}

/// The stage of a node with a config.
fn stage(generation: u64, conditions: &[Condition]) -> Stage {
    if conditions.iter().any(|condition| condition.state == ConditionState::Failed) {
        Stage::Degraded
    } else if conditions.iter().any(|condition| {
        condition.state == ConditionState::Waiting || condition.generation < generation
    }) {
        Stage::Configuring
    } else {
        Stage::Running
    }
}

#[cfg(test)]
mod tests;
