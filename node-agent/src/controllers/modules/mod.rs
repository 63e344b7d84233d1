//! Kernel modules: drivers for the hardware that is there, once at start and again when hardware appears, and the modules
//! the config names. A module is never unloaded.

mod tree;

use super::{Controller, Outcome, Want};
use crate::report;
use crate::state::State;
use std::collections::BTreeSet;
use std::time::Duration;
use tree::Tree;

/// Between two looks at the hardware; what is plugged in later is found then.
const INTERVAL: Duration = Duration::from_secs(30);
/// Loading a driver can make a bus appear; deeper nesting than this does not occur.
const COLDPLUG_ROUNDS: usize = 4;

/// Loads a module with what it needs; failures are for the caller to notice by what is missing afterwards.
pub(crate) fn load_quietly(name: &str) {
    if let Err(error) = Tree::running().load(name, &[]) {
        tracing::debug!("ignoring: {}", report::chain(&error));
    }
}

/// Loads drivers for everything that has none. Blocks while drivers start.
pub(crate) fn coldplug(tried: &mut BTreeSet<String>) {
    let tree = Tree::running();
    for _ in 0..COLDPLUG_ROUNDS {
        let hardware: BTreeSet<String> = tree::hardware().difference(tried).cloned().collect();
        if hardware.is_empty() {
            return;
        }
        let drivers = match tree.drivers(&hardware) {
            Ok(drivers) => drivers,
            Err(error) => {
                tracing::warn!("no drivers are loaded, ignoring: {}", report::chain(&error));
                return;
            }
        };
        tried.extend(hardware);
        for driver in drivers {
            // Drivers may refuse hardware they do not like; that is not worth more than a debug line.
            if let Err(error) = tree.load(&driver, &[]) {
                tracing::debug!("ignoring driver {driver}: {}", report::chain(&error));
            }
        }
    }
}

/// The modules controller.
pub(crate) struct Modules {
    state: State,
    tried: BTreeSet<String>,
}

impl Modules {
    /// Raises `state.coldplug` after its first look.
    pub(crate) fn new(state: State) -> Self {
        Self { state, tried: BTreeSet::new() }
    }
}

impl Controller for Modules {
    /// Modules of the config that are not loaded.
    type Have = Vec<ingot_machine_config::v1::kernel::Module>;
    type Step = ingot_machine_config::v1::kernel::Module;

    const NAME: &'static str = "modules";
    const WITHOUT_CONFIG: bool = true;

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Self::Have> {
        let mut tried = std::mem::take(&mut self.tried);
        let task = tokio::task::spawn_blocking(move || {
            coldplug(&mut tried);
            tried
        });
        self.tried = task.await?;
        self.state.coldplug.raise();
        let wanted = want.config.iter().flat_map(|config| &config.config.machine.kernel.modules);
        Ok(wanted.filter(|module| !tree::is_loaded(&module.name)).cloned().collect())
    }

    fn plan(&self, _: &Want, have: &Self::Have) -> Vec<Self::Step> {
        have.clone()
    }

    async fn apply(&mut self, _: &Want, step: Self::Step) -> anyhow::Result<()> {
        let load = move || Tree::running().load(&step.name, &step.parameters);
        Ok(tokio::task::spawn_blocking(load).await??)
    }

    fn outcome(&self, want: &Want, _: &Self::Have) -> Outcome {
        let count = want.config.as_ref().map_or(0, |c| c.config.machine.kernel.modules.len());
        Outcome::Ok(format!("drivers and {count} modules of the config are loaded"))
    }

    fn resync(&self) -> Option<Duration> {
        Some(INTERVAL)
    }
}
