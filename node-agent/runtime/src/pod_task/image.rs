//! Getting the images of a container: those that are here, and those that have to be fetched first.

use std::sync::Arc;

use ingot_images::{Auth, Image, ImageStore};
use ingot_machine_config::v1::pod::{Container, PullPolicy};

use super::live::{Happened, Helper, Images};
use super::{PodTask, credentials};
use crate::event::{Reason, Severity};
use crate::lifecycle;
use crate::pod::Pod;
use crate::report::chain;

/// Why an image is not there: reason for the status, and a sentence.
pub(crate) struct ImageProblem {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// An image that is wanted.
#[derive(Clone)]
struct Wanted {
    reference: String,
    policy: PullPolicy,
}

/// When to fetch, when nobody says: upstream's rule.
fn default_policy(reference: &str) -> PullPolicy {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    let is_latest = !name.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
    if is_latest { PullPolicy::Always } else { PullPolicy::IfNotPresent }
}

/// All images of a container, its own first.
fn wanted(pod: &Pod, container: &Container) -> Vec<Wanted> {
    let wanted = |reference: &str, policy: Option<PullPolicy>| Wanted {
        reference: reference.to_owned(),
        policy: policy.unwrap_or_else(|| default_policy(reference)),
    };
    let mut all = vec![wanted(&container.image, container.image_pull_policy)];
    for volume in &pod.spec.volumes {
        let Some(image) = &volume.image else { continue };
        if container.volume_mounts.iter().any(|mount| mount.name == volume.name) {
            all.push(wanted(&image.reference, image.pull_policy));
        }
    }
    all
}

/// The image, when it need not be fetched.
fn at_hand(images: &ImageStore, wanted: &Wanted) -> Option<Arc<Image>> {
    let found = images.find(&wanted.reference)?;
    // What is bundled is never fetched.
    (found.pinned || wanted.policy != PullPolicy::Always).then_some(found)
}

impl PodTask {
    /// The images of a container; `None` when they have to be fetched first, which is begun.
    pub(super) fn images(&mut self, index: usize) -> Result<Option<Images>, ImageProblem> {
        if let Some(fetched) = self.live.get_mut(index).and_then(|live| live.fetched.take()) {
            return Ok(Some(fetched));
        }
        let pod = self.pod.clone();
        let Some(container) = pod.container(index) else { return Ok(None) };
        let wanted = wanted(&pod, container);
        let store = self.context.images();
        let here: Vec<_> = wanted.iter().filter_map(|w| at_hand(store, w)).collect();
        if here.len() == wanted.len() {
            return Ok(images(&wanted, here));
        }
        for wanted in &wanted {
            if wanted.policy == PullPolicy::Never && store.find(&wanted.reference).is_none() {
                return Err(ImageProblem {
                    reason: "ErrImageNeverPull",
                    message: format!(
                        "Container image \"{}\" is not present with pull policy of Never",
                        wanted.reference
                    ),
                });
            }
        }
        self.fetch(index, wanted);
        Ok(None)
    }

    fn fetch(&mut self, index: usize, wanted: Vec<Wanted>) {
        let names: Vec<_> = wanted.iter().map(|w| format!("\"{}\"", w.reference)).collect();
        let name = self.name(index);
        let message = format!("Pulling image {}", names.join(", "));
        self.event(Reason::Pulling, Severity::Info, Some(&name), message);
        let secrets: Vec<Vec<u8>> = self
            .surroundings
            .borrow()
            .iter()
            .flat_map(|all| {
                let names = self.pod.spec.image_pull_secrets.iter();
                names.filter_map(|s| all.registry_config(&self.pod.namespace, &s.name))
            })
            .map(<[u8]>::to_vec)
            .collect();
        let (store, happened) = (self.context.images().clone(), self.happened_tx.clone());
        let fetching = Helper::spawn(async move {
            let result = fetch_all(&store, &wanted, &secrets).await;
            // Fails only when the pod task is gone.
            let _ = happened.send(Happened::Fetched { index, result }).await;
        });
        if let Some(live) = self.live.get_mut(index) {
            live.fetching = Some(fetching);
        }
    }

    /// Images were fetched, or not. The next start takes them.
    pub(super) fn take_images(&mut self, index: usize, result: Result<Images, ImageProblem>) {
        let name = self.name(index);
        let Some(live) = self.live.get_mut(index) else { return };
        live.fetching = None;
        match result {
            Ok(images) => {
                let message = format!("Successfully pulled image {}", images.own.id);
                live.fetched = Some(images);
                self.event(Reason::Pulled, Severity::Info, Some(&name), message);
            }
            Err(problem) => self.image_failed(index, &problem),
        }
    }

    /// A container cannot be started for want of an image.
    pub(super) fn image_failed(&mut self, index: usize, problem: &ImageProblem) {
        let (boot_id, now) = (self.context.boot_id.clone(), super::now_ms());
        let Some(container) = self.container_mut(index) else { return };
        lifecycle::start_failed(container, problem.reason, &problem.message, &boot_id, now);
        let wait_s = container.due_ms.saturating_sub(now) / 1000;
        let name = self.name(index);
        let message = format!("{}; next try in {wait_s} s", problem.message);
        self.event(Reason::ImageFailed, Severity::Warning, Some(&name), message);
    }
}

fn images(wanted: &[Wanted], found: Vec<Arc<Image>>) -> Option<Images> {
    let mut named = wanted.iter().map(|w| w.reference.clone()).zip(found);
    let (_, own) = named.next()?;
    Some(Images { own, mounted: named.collect() })
}

async fn fetch_all(
    store: &ImageStore,
    wanted: &[Wanted],
    secrets: &[Vec<u8>],
) -> Result<Images, ImageProblem> {
    let mut found = Vec::new();
    for image in wanted {
        found.push(match at_hand(store, image) {
            Some(here) => here,
            None => fetch_one(store, &image.reference, secrets).await?,
        });
    }
    images(wanted, found).ok_or_else(|| ImageProblem {
        reason: "InvalidImageName",
        message: "the container names no image".to_owned(),
    })
}

/// Tries each credential that fits, then none.
async fn fetch_one(
    store: &ImageStore,
    reference: &str,
    secrets: &[Vec<u8>],
) -> Result<Arc<Image>, ImageProblem> {
    let mut all: Vec<Auth> =
        secrets.iter().flat_map(|config| credentials::of(config, reference)).collect();
    all.push(Auth::default());
    let mut last = None;
    for auth in &all {
        match store.pull(reference, auth, None).await {
            Ok(image) => return Ok(image),
            Err(error) => {
                let again = error.kind() == ingot_images::ErrorKind::Unauthorized;
                last = Some(error);
                if !again {
                    break;
                }
            }
        }
    }
    let (reason, message) = match &last {
        Some(error) if error.kind() == ingot_images::ErrorKind::Invalid => {
            ("InvalidImageName", chain(error))
        }
        Some(error) => ("ErrImagePull", chain(error)),
        None => ("ErrImagePull", String::new()),
    };
    Err(ImageProblem {
        reason,
        message: format!("Failed to pull image \"{reference}\": {message}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tag_latest_is_fetched_each_time() {
        for (reference, policy) in [
            ("a", PullPolicy::Always),
            ("host:5000/a", PullPolicy::Always),
            ("a/b:latest", PullPolicy::Always),
            ("a:1", PullPolicy::IfNotPresent),
            ("host:5000/a:1", PullPolicy::IfNotPresent),
            ("a@sha256:00", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(default_policy(reference), policy, "{reference}");
        }
    }
}
