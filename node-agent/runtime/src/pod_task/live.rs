//! What only memory knows of a container, and what its helpers report. All of it can be begun again.

use std::sync::Arc;

use ingot_images::{Hold, Image};
use ingot_init_api::Exit;
use tokio::task::JoinHandle;

use super::image::ImageProblem;
use super::stop::Stop;
use super::usage::Excess;
use crate::io::ContainerIo;
use crate::probe::{Judge, Kind};

/// What the helpers of a pod task report.
pub(crate) enum Happened {
    /// A run of a container ended; `None` when PID 1 has lost its exit.
    Ended { index: usize, id: String, exit: Option<Exit> },
    /// The images of a container are there, or not.
    Fetched { index: usize, result: Result<Images, ImageProblem> },
    /// The hook after the start is over.
    PostStart { index: usize, id: String, result: Result<(), String> },
    /// The hook before the end is over.
    PreStop { index: usize, id: String, result: Result<(), String> },
    /// A container answered a probe.
    Probed { index: usize, id: String, kind: Kind, answer: Result<(), String> },
    /// The disk usage was looked at.
    Measured(Option<Excess>),
}

/// The images a container is made of.
#[derive(Clone)]
pub(crate) struct Images {
    /// Its own.
    pub(crate) own: Arc<Image>,
    /// Those it mounts, by the names it has for them.
    pub(crate) mounted: Vec<(String, Arc<Image>)>,
}

/// What memory knows of a container.
#[derive(Default)]
pub(super) struct Live {
    pub(super) io: Option<ContainerIo>,
    /// Keeps its images.
    pub(super) holds: Vec<Hold>,
    /// Images are being fetched.
    pub(super) fetching: Option<Helper>,
    /// They are there: what the next start takes.
    pub(super) fetched: Option<Images>,
    /// Why its program could not be executed.
    pub(super) start_error: Option<String>,
    /// It is being stopped.
    pub(super) stop: Option<Stop>,
    /// The hook after its start is under way.
    pub(super) post_start: Option<Helper>,
    /// Probes that are asked.
    pub(super) probes: Vec<Probing>,
}

/// A probe that is asked again and again.
pub(super) struct Probing {
    pub(super) kind: Kind,
    pub(super) judge: Judge,
    pub(super) _asking: Helper,
}

/// A task that ends when nobody holds this any more.
pub(super) struct Helper(JoinHandle<()>);

impl Helper {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.abort();
    }
}
