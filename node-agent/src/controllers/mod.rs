//! The table of contents of the machine: what a controller is, and the single list of them. Controllers never call each
//! other; they meet in `crate::state`.

pub(crate) mod hostname;
pub(crate) mod kubernetes;
pub(crate) mod modules;
pub(crate) mod network;
pub(crate) mod pki;
pub(crate) mod pods;
pub(crate) mod runner;
pub(crate) mod storage;
pub(crate) mod sysctl;
pub(crate) mod time;

use crate::state::DesiredConfig;
use std::sync::Arc;
use std::time::Duration;

/// What a controller is asked to make true.
#[derive(Clone, Debug, Default)]
pub(crate) struct Want {
    /// The config; `None` while the node has none.
    pub(crate) config: Option<Arc<DesiredConfig>>,
}

impl Want {
    /// Generation of the config, 0 without one.
    pub(crate) fn generation(&self) -> u64 {
        self.config.as_ref().map_or(0, |config| config.generation)
    }
}

/// What a controller says when it has nothing more to do for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As wished; in words.
    Ok(String),
    /// Not yet: what is waited for and for how long at most.
    Waiting(String, Option<Duration>),
    /// Not as wished, and why.
    Failed(String),
}

/// A part of the machine that is kept as wished: observe, plan, apply, and say how it is. The loop around it is
/// [`runner::run`]; a controller only has its own domain.
pub(crate) trait Controller: Send + 'static {
    /// What it sees.
    type Have: Send;
    /// One thing it can do.
    type Step: Send + std::fmt::Debug;

    /// Its name in conditions.
    const NAME: &'static str;
    /// Whether it does anything while the node has no config.
    const WITHOUT_CONFIG: bool = false;

    /// Looks.
    fn observe(&mut self, want: &Want) -> impl Future<Output = anyhow::Result<Self::Have>> + Send;

    /// What is to be done, in order. Does no I/O.
    fn plan(&self, want: &Want, have: &Self::Have) -> Vec<Self::Step>;

    /// Does one thing.
    fn apply(
        &mut self,
        want: &Want,
        step: Self::Step,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// How it is, once there is nothing to do.
    fn outcome(&self, want: &Want, have: &Self::Have) -> Outcome;

    /// Returns when something outside the config may have changed. Must be cancel safe.
    fn woken(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Looks again after this time though nothing woke it; `None` for never.
    fn resync(&self) -> Option<Duration> {
        None
    }
}
