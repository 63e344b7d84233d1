//! Taking a config: check it, make it durable, publish it. The one door for every source, so that no config is ever half
//! taken: what is refused changes nothing.

use crate::report;
use crate::state::desired::{Source, Wish};
use crate::state::ledger::{Entry, Ledger, LedgerError};
use crate::state::{DesiredConfig, Severity, State, VolumeState};
use ingot_machine_config::{Config, Problem};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Longest config in bytes.
pub(crate) const CONFIG_MAX: usize = 4 * 1024 * 1024;

/// Why a config was not taken. What is wrong with the config itself is no error but [`Applied::problems`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// There is nowhere to keep it.
    #[error("the config cannot be stored: STATE is not mounted: {0}")]
    NoState(String),
    /// It could not be made durable; the node goes on as before.
    #[error("the config could not be stored; the node goes on with the one before")]
    Store(#[from] LedgerError),
    /// The program is ending.
    #[error("the node agent is stopping")]
    Stopping,
}

/// What became of a config.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Generation wished for now; with a dry run the one it would have had.
    pub(crate) generation: u64,
    /// What is wrong with the config; when there is anything, nothing was changed.
    pub(crate) problems: Vec<Problem>,
    /// It equals the current one.
    pub(crate) unchanged: bool,
    /// What changes, in words.
    pub(crate) changes: Vec<String>,
}

/// Takes configs, one at a time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Applier {
    state: State,
    ledger: Ledger,
    one_at_a_time: Arc<Mutex<()>>,
}

impl Applier {
    /// Keeps configs in this ledger.
    pub(crate) fn new(state: State, ledger: Ledger) -> Self {
        Self { state, ledger, one_at_a_time: Arc::default() }
    }

    /// Checks a config and, unless `dry_run`, makes it durable and then the wish.
    ///
    /// # Errors
    /// When it cannot be made durable. Nothing is changed then.
    pub(crate) async fn apply(&self, text: String, dry_run: bool) -> Result<Applied, ApplyError> {
        let _turn = self.one_at_a_time.lock().await;
        let this = self.clone();
        // Parsing megabytes and syncing a disk do not belong on the thread that serves everybody.
        let task = tokio::task::spawn_blocking(move || this.apply_now(text, dry_run));
        task.await.map_err(|_| ApplyError::Stopping)?
    }

    fn apply_now(&self, text: String, dry_run: bool) -> Result<Applied, ApplyError> {
        let current = self.state.desired.config();
        let generation = current.as_ref().map_or(0, |config| config.generation);
        let config = match check(&text) {
            Ok(config) => config,
            Err(problems) => return Ok(Applied { generation, problems, ..Applied::default() }),
        };
        if current.as_ref().is_some_and(|current| current.text == text) {
            return Ok(Applied { generation, unchanged: true, ..Applied::default() });
        }
        let changes = changes(current.as_ref().map(|current| &current.config), &config);
        let generation = self.ledger.next_generation()?.max(generation + 1);
        if dry_run {
            return Ok(Applied { generation, changes, ..Applied::default() });
        }
        self.require_state()?;
        let source = Source::Api;
        self.ledger.store(&Entry {
            generation,
            source: source.name().into(),
            text: text.clone(),
        })?;
        let message = format!("generation {generation}: {}", changes.join("; "));
        self.state.events.record(Severity::Info, "ConfigApplied", "node", message);
        let config = DesiredConfig { generation, source, text, config };
        self.state.desired.publish(Wish::Config(Arc::new(config)));
        Ok(Applied { generation, changes, ..Applied::default() })
    }

    fn require_state(&self) -> Result<(), ApplyError> {
        match self.state.storage.get().state {
            VolumeState::Mounted => Ok(()),
            VolumeState::Failed(reason) => Err(ApplyError::NoState(reason)),
            VolumeState::Unknown | VolumeState::Creating => {
                Err(ApplyError::NoState("it is being made; try again in a few seconds".into()))
            }
        }
    }

    /// Uses what the ledger holds: the newest whole config that this release understands. Says whether there was one.
    pub(crate) fn take_stored(&self) -> Result<bool, LedgerError> {
        let loaded = self.ledger.load()?;
        for (path, reason) in &loaded.damaged {
            let message = format!("{}: {reason}, trying the one before", path.display());
            self.state.events.record(Severity::Error, "ConfigDamaged", "node", message);
        }
        for entry in loaded.entries {
            match check(&entry.text) {
                Ok(config) => {
                    let Entry { generation, source, text } = entry;
                    let source = Source::from_name(&source);
                    let config = DesiredConfig { generation, source, text, config };
                    self.state.desired.publish(Wish::Config(Arc::new(config)));
                    return Ok(true);
                }
                Err(problems) => {
                    let first = problems.first().map(ToString::to_string).unwrap_or_default();
                    let message =
                        format!("generation {}: {first}, trying the one before", entry.generation);
                    self.state.events.record(Severity::Error, "ConfigRefused", "node", message);
                }
            }
        }
        Ok(false)
    }

    /// Uses a config that came with the machine. It counts at once and is stored by [`Applier::keep`].
    /// Says whether it was good.
    pub(crate) fn take_found(&self, text: String, source: Source, place: &str) -> bool {
        let config = match check(&text) {
            Ok(config) => config,
            Err(problems) => {
                let lines: Vec<String> = problems.iter().take(5).map(ToString::to_string).collect();
                let more = problems.len().saturating_sub(5);
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                let message = format!("{place}: {}{more}", lines.join("; "));
                self.state.events.record(Severity::Error, "ConfigRefused", "node", message);
                return false;
            }
        };
        self.state.events.record(Severity::Info, "ConfigFound", "node", place);
        // An empty ledger: the first generation. One that cannot be read now will not be written either.
        let generation = self.ledger.next_generation().unwrap_or(1);
        let config = DesiredConfig { generation, source, text, config };
        self.state.desired.publish(Wish::Config(Arc::new(config)));
        true
    }

    /// Stores the config in use if it is not stored yet. For configs that came with the machine, once STATE is there.
    pub(crate) async fn keep(&self) -> Result<(), ApplyError> {
        let _turn = self.one_at_a_time.lock().await;
        let Some(config) = self.state.desired.config() else { return Ok(()) };
        if self.ledger.next_generation()? > config.generation {
            return Ok(());
        }
        let ledger = self.ledger.clone();
        let task = tokio::task::spawn_blocking(move || {
            ledger.store(&Entry {
                generation: config.generation,
                source: config.source.name().into(),
                text: config.text.clone(),
            })
        });
        let result = task.await.map_err(|_| ApplyError::Stopping)?;
        if let Err(error) = &result {
            let message = report::chain(error);
            self.state.events.record(Severity::Error, "ConfigNotStored", "node", message);
        }
        Ok(result?)
    }
}

/// The config of a text, or everything that is wrong with it.
fn check(text: &str) -> Result<Config, Vec<Problem>> {
    if text.len() > CONFIG_MAX {
        let message = format!("the config has {} bytes; at most {CONFIG_MAX} are read", text.len());
        return Err(vec![Problem { message, ..Problem::default() }]);
    }
    let loaded = ingot_machine_config::load(text);
    match loaded.config {
        Some(config) if loaded.problems.is_empty() => Ok(config),
        _ => Err(loaded.problems),
    }
}

/// What differs between two configs, in words an operator can check before applying.
fn changes(old: Option<&Config>, new: &Config) -> Vec<String> {
    let Some(old) = old else {
        return vec![format!("first config, {} pods", new.pods.len())];
    };
    let mut changes = ingot_machine_config::changes(old, new);
    if changes.is_empty() {
        changes.push("only comments or layout change".into());
    }
    changes
}
