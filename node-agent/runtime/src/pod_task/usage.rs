//! How much disk a pod takes, and what happens when that is more than it may.

use std::path::PathBuf;
use std::time::Duration;

use ingot_machine_config::Quantity;
use ingot_machine_config::v1::pod::Medium;
use tokio::time::Instant;

use super::PodTask;
use super::live::{Happened, Helper};
use crate::container::RunPaths;
use crate::disk;
use crate::event::Reason;
use crate::lifecycle;

/// Pause between two looks: the kubelet's.
const PERIOD: Duration = Duration::from_secs(10);

/// A pod takes more than it may: the message for people.
pub(crate) struct Excess(String);

/// Looking at the disk usage of a pod.
#[derive(Default)]
pub(super) struct Watch {
    due: Option<Instant>,
    measuring: Option<Helper>,
}

/// A bound, and the folders it holds for.
struct Bound {
    folders: Vec<PathBuf>,
    bytes_max: u64,
    message: String,
}

impl PodTask {
    /// Looks at the disk usage when that is due. Returns when it is next.
    pub(super) fn watch_usage(&mut self) -> Option<Instant> {
        if lifecycle::is_finished(&self.record) || self.record.removing || self.halt.is_some() {
            return None;
        }
        let now = Instant::now();
        let due = *self.usage.due.get_or_insert(now + PERIOD);
        if due > now || self.usage.measuring.is_some() {
            return self.usage.measuring.is_none().then_some(due);
        }
        self.usage.due = Some(now + PERIOD);
        let bounds = self.bounds();
        if bounds.is_empty() {
            return self.usage.due;
        }
        let happened = self.happened_tx.clone();
        self.usage.measuring = Some(Helper::spawn(async move {
            let excess = tokio::task::spawn_blocking(move || first_excess(&bounds)).await;
            // Fails only when the pod task is gone.
            let _ = happened.send(Happened::Measured(excess.unwrap_or(None))).await;
        }));
        None
    }

    /// The disk usage is known.
    pub(super) async fn take_usage(&mut self, excess: Option<Excess>) {
        self.usage.measuring = None;
        self.usage.due = Some(Instant::now() + PERIOD);
        if let Some(Excess(message)) = excess {
            self.condemn(Reason::Evicted, message).await;
        }
    }

    /// What the pod is bound to.
    fn bounds(&self) -> Vec<Bound> {
        let mut bounds = Vec::new();
        let mut of_pod = Vec::new();
        for volume in &self.pod.spec.volumes {
            let Some(empty) = &volume.empty_dir else { continue };
            if empty.medium == Medium::Memory {
                // Its size is the tmpfs's own bound.
                continue;
            }
            let folder = self.folder.join("volumes").join(&volume.name);
            of_pod.push(folder.clone());
            if let Some(limit) = &empty.size_limit {
                let name = &volume.name;
                let message =
                    format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{limit}\".");
                bounds.push(Bound { folders: vec![folder], bytes_max: limit.units(), message });
            }
        }
        let mut total = Some(0_u64);
        for (container, record) in self.pod.all_containers().zip(&self.record.containers) {
            let logs = self.context.paths().logs.join(&self.pod.uid).join(&container.name);
            let layer = record.run.as_ref().map(|run| RunPaths::new(&self.context, &run.id).var);
            let folders: Vec<PathBuf> = layer.into_iter().chain([logs]).collect();
            of_pod.extend(folders.iter().cloned());
            let limit = container.resources.limits.ephemeral_storage.as_ref();
            if let Some(limit) = limit {
                let name = &container.name;
                let message = format!(
                    "Container {name} exceeded its local ephemeral storage limit \"{limit}\"."
                );
                bounds.push(Bound { folders, bytes_max: limit.units(), message });
            }
            // A container without a limit leaves the pod without one.
            total = total.zip(limit.map(Quantity::units)).map(|(sum, own)| sum.saturating_add(own));
        }
        if let Some(bytes_max) = total.filter(|total| *total > 0) {
            let message = format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {bytes_max}."
            );
            bounds.push(Bound { folders: of_pod, bytes_max, message });
        }
        bounds
    }
}

fn first_excess(bounds: &[Bound]) -> Option<Excess> {
    let exceeded = |bound: &&Bound| {
        let taken = bound.folders.iter().filter_map(|folder| disk::count(folder));
        taken.map(|taken| taken.bytes).sum::<u64>() > bound.bytes_max
    };
    bounds.iter().find(exceeded).map(|bound| Excess(bound.message.clone()))
}
