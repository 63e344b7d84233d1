//! The node's own volumes: finds the disk that holds the root, creates STATE and VAR (and the second root slot) where
//! they are missing, and mounts them. It never touches bytes that belong to a partition it did not just create, and never
//! formats what carries a file system.

mod boot_disk;
pub(crate) mod gpt;

use super::{Controller, Outcome, Want};
use crate::state::observed::Volume;
use crate::state::storage::Volumes;
use crate::state::{Severity, State, VolumeState};
use anyhow::{Context as _, bail};
use boot_disk::{BootDisk, DiskView, Part};
use ingot_linux::volume::{self, Access};
use ingot_machine_config::layout;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// The program that makes file systems.
const MKE2FS: &str = "/usr/sbin/mke2fs";
/// How long it may take; it writes a few MiB, but a dying disk must not hold the node for ever.
const MKE2FS_DEADLINE: Duration = Duration::from_secs(120);

/// A volume: its partition, where it goes, and what may be done on it.
struct Spec {
    partition: layout::Partition,
    target: &'static str,
    access: Access,
}

/// STATE first: the config is on it.
const VOLUMES: [Spec; 2] = [
    Spec { partition: layout::STATE, target: "/state", access: Access::Write },
    // Containers run programs from their writable layers.
    Spec { partition: layout::VAR, target: "/var", access: Access::Execute },
];

/// The storage controller.
pub(crate) struct Storage {
    state: State,
}

/// What is there.
#[derive(Debug)]
pub(crate) struct Have {
    /// Devices mounted on the targets of [`VOLUMES`].
    mounted: [Option<String>; 2],
    /// The disk; not looked at when everything is mounted.
    disk: Option<DiskView>,
}

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Step {
    /// Add the missing partitions to the table.
    Partition,
    /// Write both copies of the table again: one of them is not whole or not in its place.
    Repair,
    /// Tell the kernel of a partition.
    Announce(Part),
    /// Make a file system.
    Format(&'static str, Part),
    /// Mount volume number so-and-so.
    Mount(usize, Part),
}

impl Storage {
    /// Its part of the state is `state.storage`.
    pub(crate) fn new(state: State) -> Self {
        Self { state }
    }

    /// Tells everyone how far the volumes are.
    fn publish(&self, have: &Have) {
        let volume = |index: usize| match (&have.mounted[index], &have.disk) {
            (Some(_), _) => VolumeState::Mounted,
            (None, Some(disk)) => match disk.part(VOLUMES[index].partition.name) {
                Some(part) if part.has_ext4 => VolumeState::Unknown,
                _ => VolumeState::Creating,
            },
            (None, None) => VolumeState::Unknown,
        };
        self.state.storage.publish(Volumes { state: volume(0), var: volume(1) });
        let mounted = (0..VOLUMES.len()).filter_map(|index| {
            let device = have.mounted[index].clone()?;
            let spec = &VOLUMES[index];
            let name = spec.partition.name.to_owned();
            Some(Volume { name, mount_point: spec.target.to_owned(), device })
        });
        self.state.observed.set(|seen| &mut seen.volumes, mounted.collect());
    }

    /// A volume that is not there yet will not be, for now.
    fn publish_failure(&self, message: &str) {
        let mut volumes = self.state.storage.get();
        for volume in [&mut volumes.state, &mut volumes.var] {
            if *volume != VolumeState::Mounted {
                *volume = VolumeState::Failed(message.to_owned());
            }
        }
        self.state.storage.publish(volumes);
    }

    fn look() -> anyhow::Result<Have> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").context("read mounts")?;
        let mounted = VOLUMES.map(|spec| volume::mounted_device(&mountinfo, spec.target));
        let disk = match mounted.iter().all(Option::is_some) {
            true => None,
            false => Some(BootDisk::find()?.view()),
        };
        Ok(Have { mounted, disk })
    }
}

impl Controller for Storage {
    type Have = Have;
    type Step = Step;

    const NAME: &'static str = "storage";
    const WITHOUT_CONFIG: bool = true;

    async fn observe(&mut self, _: &Want) -> anyhow::Result<Have> {
        // Reads some KiB; not worth a thread, and the API waits for it.
        let found = Self::look();
        match &found {
            Ok(have) => self.publish(have),
            Err(error) => self.publish_failure(&format!("{error:#}")),
        }
        found
    }

    fn plan(&self, _: &Want, have: &Have) -> Vec<Step> {
        plan(have)
    }

    async fn apply(&mut self, _: &Want, step: Step) -> anyhow::Result<()> {
        let result = match step {
            Step::Partition => {
                let added = BootDisk::find()?.add_partitions()?;
                let message = format!("created partitions {}", added.join(", "));
                self.state.events.record(Severity::Info, "PartitionsCreated", "node", message);
                Ok(())
            }
            Step::Repair => BootDisk::find()?.repair(),
            Step::Announce(part) => BootDisk::find()?.announce(&part),
            Step::Format(name, part) => format(name, &part).await,
            Step::Mount(index, part) => mount(&VOLUMES[index], &part),
        };
        if let Err(error) = &result {
            self.publish_failure(&format!("{error:#}"));
        }
        result
    }

    fn outcome(&self, _: &Want, _: &Have) -> Outcome {
        Outcome::Ok("STATE and VAR are mounted".into())
    }
}

/// Mounts what can be mounted before anything else is done: the config waits for it.
fn plan(have: &Have) -> Vec<Step> {
    let Some(disk) = &have.disk else { return Vec::new() };
    let specs = VOLUMES.iter().enumerate().filter(|(index, _)| have.mounted[*index].is_none());
    if layout::ADDED.iter().any(|partition| disk.part(partition.name).is_none()) {
        let mut steps: Vec<Step> = specs
            .filter_map(|(index, spec)| {
                let part = disk.part(spec.partition.name)?;
                (part.has_ext4 && part.known).then(|| Step::Mount(index, part.clone()))
            })
            .collect();
        steps.push(Step::Partition);
        return steps;
    }
    let mut steps = Vec::new();
    for (index, spec) in specs {
        let Some(part) = disk.part(spec.partition.name) else { continue };
        if !part.known {
            steps.push(Step::Announce(part.clone()));
        }
        if !part.has_ext4 {
            steps.push(Step::Format(spec.partition.name, part.clone()));
        }
        steps.push(Step::Mount(index, part.clone()));
    }
    if !disk.settled {
        steps.push(Step::Repair);
    }
    steps
}

async fn format(name: &str, part: &Part) -> anyhow::Result<()> {
    if let Some(other) = &part.foreign {
        bail!(
            "partition {name} holds {other}, which is not overwritten; remove the partition to let the node make its own"
        );
    }
    let mut command = Command::new(MKE2FS);
    command
        // One percent that only the agent may use, see `mount`.
        .args(["-q", "-F", "-t", "ext4", "-m", "1", "-L", name])
        // What a first boot writes is what it waits for: tables and journal are zeroed by the kernel later.
        .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"])
        .arg(&part.device)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = tokio::time::timeout(MKE2FS_DEADLINE, command.output())
        .await
        .with_context(|| format!("{MKE2FS} took more than {} s", MKE2FS_DEADLINE.as_secs()))?
        .with_context(|| format!("run {MKE2FS}"))?;
    if !output.status.success() {
        let words: String = String::from_utf8_lossy(&output.stderr).chars().take(200).collect();
        bail!("make a file system on {name}: {}: {}", output.status, words.trim());
    }
    Ok(())
}

fn mount(spec: &Spec, part: &Part) -> anyhow::Result<()> {
    // What is kept back is for CAP_SYS_RESOURCE, which the agent has, and for one user, by default root: a pod running as
    // root could then fill the disk to a point where its own removal cannot be recorded. Nobody has this number.
    let options = "errors=remount-ro,resuid=4294967294";
    volume::mount(&part.device, Path::new(spec.target), "ext4", spec.access, options)
        .with_context(|| format!("volume {}", spec.partition.name))
}

#[cfg(test)]
mod tests;
