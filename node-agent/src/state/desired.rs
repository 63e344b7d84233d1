//! The checked config and its generation, published on a watch. Nobody sees a config that is not durable, with one
//! exception that says so: a config that came with the machine (drive or image) can be read again after a power cut.

use ingot_machine_config::Config;
use std::sync::Arc;
use tokio::sync::watch;

/// Where a config came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The state partition, written by an earlier boot.
    State,
    /// A `CIDATA` drive.
    Cidata,
    /// The image itself.
    Image,
    /// A call of `ApplyConfig`.
    Api,
}

impl Source {
    /// The word in the API and in the ledger.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Cidata => "cidata",
            Self::Image => "image",
            Self::Api => "api",
        }
    }

    /// The other way round; unknown words (of a newer release) are "state".
    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "cidata" => Self::Cidata,
            "image" => Self::Image,
            "api" => Self::Api,
            _ => Self::State,
        }
    }
}

/// A config the node works towards.
#[derive(Debug)]
pub(crate) struct DesiredConfig {
    /// Counts up with each change, also across boots.
    pub(crate) generation: u64,
    /// Where it came from first.
    pub(crate) source: Source,
    /// The text as it was given. Holds secrets.
    pub(crate) text: String,
    /// The text, checked.
    pub(crate) config: Config,
}

/// What is wished for.
#[derive(Clone, Debug, Default)]
pub(crate) enum Wish {
    /// Not known yet: the agent is still looking for a config.
    #[default]
    Unknown,
    /// There is no config; the node waits for one.
    Nothing,
    /// This.
    Config(Arc<DesiredConfig>),
}

/// The shared wish; cheap to clone.
#[derive(Clone)]
pub(crate) struct Desired {
    wish: Arc<watch::Sender<Wish>>,
}

impl Desired {
    /// Nothing known.
    pub(crate) fn new() -> Self {
        Self { wish: Arc::new(watch::Sender::new(Wish::Unknown)) }
    }

    /// The wish now. Do not hold across an await.
    pub(crate) fn borrow(&self) -> watch::Ref<'_, Wish> {
        self.wish.borrow()
    }

    /// The config now, when there is one.
    pub(crate) fn config(&self) -> Option<Arc<DesiredConfig>> {
        match &*self.wish.borrow() {
            Wish::Config(config) => Some(Arc::clone(config)),
            Wish::Unknown | Wish::Nothing => None,
        }
    }

    /// Generation of the config now; 0 when there is none.
    pub(crate) fn generation(&self) -> u64 {
        self.config().map_or(0, |config| config.generation)
    }

    /// Publishes a wish.
    pub(crate) fn publish(&self, wish: Wish) {
        self.wish.send_replace(wish);
    }

    /// Wakes its holder at each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }
}
