//! Pulls: who asks for the same joins, who goes away changes nothing, and none takes for ever.
//!
//! Each runs on a thread with a runtime of its own: decryption and the disk must not delay the agent.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::Progress;
use super::fetch::{Fetch, Names};
use super::find;
use super::state::Inner;
use crate::auth::Auth;
use crate::digest::Digest;
use crate::error::Error;
use crate::image::Image;
use crate::reference::Reference;
use crate::registry::Registries;
use crate::source::Source;

/// What makes two pulls the same: others must not profit from somebody's credentials.
pub(super) type Key = (String, Auth);

/// A pull that is running.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    result: watch::Receiver<Option<Result<Arc<Image>, Arc<Error>>>>,
    progress: watch::Receiver<Progress>,
}

pub(super) async fn pull(
    inner: &Arc<Inner>,
    reference: &str,
    auth: &Auth,
    progress: Option<watch::Sender<Progress>>,
) -> Result<Arc<Image>, Error> {
    let parsed = Reference::parse(reference)?;
    let images = inner.snapshot.borrow().clone();
    if let Some(image) = find::find(&images, reference).filter(|image| image.pinned) {
        return Ok(image.clone());
    }
    let mut flight = join(inner, (parsed.to_string(), auth.clone()), parsed);
    loop {
        tokio::select! {
            changed = flight.result.changed() => {
                changed.map_err(|_| Error::Abandoned)?;
                if let Some(result) = flight.result.borrow().clone() {
                    return result.map_err(Error::Joined);
                }
            }
            Ok(()) = flight.progress.changed() => {
                if let Some(progress) = &progress {
                    progress.send_replace(*flight.progress.borrow_and_update());
                }
            }
        }
    }
}

/// The pull that is running, or a new one.
fn join(inner: &Arc<Inner>, key: Key, reference: Reference) -> Flight {
    let mut state = inner.state();
    if let Some(flight) = state.pulls.get(&key) {
        return flight.clone();
    }
    let (result_sender, result) = watch::channel(None);
    let (progress_sender, progress) = watch::channel(Progress::default());
    let flight = Flight { result, progress };
    state.pulls.insert(key.clone(), flight.clone());
    drop(state);
    let inner = inner.clone();
    tokio::spawn(async move {
        let sources = inner.sources();
        let registry = Registries::new(&inner.config, &sources, &reference, &key.1);
        let result = match registry {
            Ok(registry) => {
                let fetch = Fetch {
                    inner: inner.clone(),
                    source: Source::Registry(registry),
                    names: Names::of(&reference),
                    progress: progress_sender,
                };
                run(fetch, reference.manifest(), reference.digest()).await
            }
            Err(source) => {
                Err(Error::Registry { reference: reference.to_string(), source: source.into() })
            }
        };
        inner.state().pulls.remove(&key);
        result_sender.send_replace(Some(result.map_err(Arc::new)));
    });
    flight
}

/// Runs on a thread of its own, as soon as there are not too many.
pub(super) async fn run(
    fetch: Fetch,
    name: String,
    digest: Option<Digest>,
) -> Result<Arc<Image>, Error> {
    let inner = fetch.inner.clone();
    let _permit = inner.at_once.acquire().await.map_err(|_| Error::Abandoned)?;
    let (answer, result) = oneshot::channel();
    let deadline = inner.config.timeouts.pull;
    let reference = fetch.names.shown.clone();
    let owner = inner.clone();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.map_err(Error::Thread).and_then(|runtime| {
            runtime.block_on(async {
                let limited = timeout(deadline, fetch.run(name, digest)).await;
                let seconds = deadline.as_secs();
                limited.unwrap_or(Err(Error::Deadline { reference, seconds }))
            })
        });
        if result.is_err()
            && let Err(error) = owner.collect()
        {
            tracing::warn!(%error, "layers of a failed pull stay for now");
        }
        // Nobody listening: the agent is going down.
        let _ = answer.send(result);
    };
    std::thread::Builder::new().name("image-pull".into()).spawn(work).map_err(Error::Thread)?;
    result.await.map_err(|_| Error::Abandoned)?
}
