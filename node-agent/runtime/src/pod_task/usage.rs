//! How much disk a pod takes, and what happens when that is more than it may. A folder is counted as du(1) counts it; its
//! contents belong to a container that may change them meanwhile: the count follows no link, leaves the folder never, and
//! gives up early.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingot_machine_config::Quantity;
use ingot_machine_config::v1::pod::Medium;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use tokio::time::Instant;

use super::PodTask;
use super::live::{Happened, Helper};
use crate::container::RunPaths;
use crate::event::Reason;
use crate::lifecycle;

/// Pause between two looks: the kubelet's.
const PERIOD: Duration = Duration::from_secs(10);

/// Most entries that are looked at. A folder with more is not counted to its end: what was counted is the answer.
const ENTRIES_MAX: u64 = 1_000_000;

/// Deepest folder that is looked at.
const DEPTH_MAX: usize = 256;

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
        bound.folders.iter().map(|folder| bytes_of(folder)).sum::<u64>() > bound.bytes_max
    };
    bounds.iter().find(exceeded).map(|bound| Excess(bound.message.clone()))
}

/// Bytes on disk of everything below `folder`; 0 when it is not there. Blocks.
pub(super) fn bytes_of(folder: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(folder, flags, Mode::empty()) else { return 0 };
    let mut total = 0_u64;
    let mut entries = 0_u64;
    let mut open: Vec<(OwnedFd, Dir)> = Vec::new();
    push(&mut open, root);
    while let Some((fd, dir)) = open.last_mut() {
        let Some(Ok(entry)) = dir.next() else {
            open.pop();
            continue;
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        entries += 1;
        if entries > ENTRIES_MAX {
            break;
        }
        let Ok(stat) = rustix::fs::statat(fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        total =
            total.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && let Ok(inner) = rustix::fs::openat(fd.as_fd(), name, flags, Mode::empty())
            && open.len() < DEPTH_MAX
        {
            push(&mut open, inner);
        }
    }
    total
}

fn push(open: &mut Vec<(OwnedFd, Dir)>, folder: OwnedFd) {
    if let Ok(dir) = Dir::read_from(&folder) {
        open.push((folder, dir));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let big = tempfile::tempdir().unwrap();
        std::fs::write(big.path().join("big"), vec![1; 1 << 20]).unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink(big.path(), folder.path().join("out")).unwrap();
        let bytes = bytes_of(folder.path());
        assert!((100_000..500_000).contains(&bytes), "{bytes}");
        assert_eq!(bytes_of(&folder.path().join("out")), 0);
        assert_eq!(bytes_of(&folder.path().join("none")), 0);
    }
}
