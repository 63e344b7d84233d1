//! From volumes and their mounts to what the lower layer mounts. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ingot_machine_config::Quantity;
use ingot_machine_config::v1::pod::{
    Container, Medium, MountPropagation, RecursiveReadOnly, Volume, VolumeMount,
};

use super::super::environment::{Environment, expand_text};
use crate::config::{Mount, MountSource, Propagation, UserNamespace};
use crate::pod::Pod;

/// Where a container finds the file for its last words, when it does not say.
const MESSAGE_PATH: &str = "/dev/termination-log";

/// Why a mount cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MountError {
    /// The volume is not there.
    #[error("the pod has no volume {volume:?}")]
    NoVolume { volume: String },
    /// A variable of a path is not there, or leads elsewhere.
    #[error("subPathExpr {text:?} does not become a path inside of the volume")]
    SubPath { text: String },
}

/// Where things of a pod are on the node.
pub(crate) struct Places {
    /// Folder of the volumes on disk.
    pub(crate) on_disk: PathBuf,
    /// Folder of the volumes made of files.
    pub(crate) files: PathBuf,
    /// The file for the container's last words.
    pub(crate) message: PathBuf,
}

/// Volumes in memory, with their sizes.
pub(super) fn in_memory(pod: &Pod) -> BTreeMap<String, Option<u64>> {
    let memory = pod.spec.volumes.iter().filter_map(|volume| {
        let empty = volume.empty_dir.as_ref().filter(|empty| empty.medium == Medium::Memory)?;
        Some((volume.name.clone(), empty.size_limit.as_ref().map(Quantity::units)))
    });
    memory.collect()
}

/// The path of a volume that is the node's.
fn host_path(volume: &Volume) -> Option<&Path> {
    volume.host_path.as_ref().map(|host| Path::new(&host.path))
}

/// All mounts of a container.
pub(super) fn of(
    pod: &Pod,
    container: &Container,
    places: &Places,
    environment: &Environment,
    user: Option<&UserNamespace>,
) -> Result<Vec<Mount>, MountError> {
    let one = |mount: &VolumeMount| mounted(pod, mount, places, environment, user);
    let mut mounts: Vec<Mount> =
        container.volume_mounts.iter().map(one).collect::<Result<_, _>>()?;
    mounts.push(Mount {
        container_path: container
            .termination_message_path
            .clone()
            .unwrap_or_else(|| MESSAGE_PATH.to_owned()),
        source: MountSource::Host(places.message.clone()),
        id_mapping: user.cloned(),
        ..Mount::default()
    });
    Ok(mounts)
}

fn mounted(
    pod: &Pod,
    mount: &VolumeMount,
    places: &Places,
    environment: &Environment,
    user: Option<&UserNamespace>,
) -> Result<Mount, MountError> {
    let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
    let volume = volume.ok_or_else(|| MountError::NoVolume { volume: mount.name.clone() })?;
    let sub_path = sub_path(mount, environment)?;
    let name = &volume.name;
    // What the agent wrote is the agent's to change.
    let mut read_only = mount.read_only;
    let mut mapped = true;
    let source = if let Some(empty) = &volume.empty_dir {
        match empty.medium {
            Medium::Memory => MountSource::Memory { name: name.clone(), sub_path },
            Medium::Disk => MountSource::Inside { root: places.on_disk.join(name), sub_path },
        }
    } else if let Some(host) = host_path(volume) {
        if sub_path.is_empty() {
            MountSource::Host(host.to_owned())
        } else {
            MountSource::Inside { root: host.to_owned(), sub_path }
        }
    } else if let Some(image) = &volume.image {
        read_only = true;
        mapped = false;
        MountSource::Image { image: image.reference.clone(), sub_path }
    } else {
        read_only = true;
        MountSource::Inside { root: places.files.join(name), sub_path }
    };
    let recursive = mount.recursive_read_only.unwrap_or(RecursiveReadOnly::Disabled);
    Ok(Mount {
        container_path: mount.mount_path.clone(),
        source,
        read_only,
        // The kernel can do it since 5.12, so "if possible" is "yes".
        recursive_read_only: read_only && recursive != RecursiveReadOnly::Disabled,
        propagation: match mount.mount_propagation {
            None | Some(MountPropagation::None) => Propagation::Private,
            Some(MountPropagation::HostToContainer) => Propagation::HostToContainer,
            Some(MountPropagation::Bidirectional) => Propagation::Bidirectional,
        },
        id_mapping: user.filter(|_| mapped).cloned(),
    })
}

fn sub_path(mount: &VolumeMount, environment: &Environment) -> Result<String, MountError> {
    let Some(text) = &mount.sub_path_expr else {
        return Ok(mount.sub_path.clone().unwrap_or_default());
    };
    let path = expand_text(text, environment);
    let up = path.split('/').any(|part| part == "..");
    if path.is_empty() || path.starts_with('/') || path.contains("$(") || path.contains('\0') || up
    {
        return Err(MountError::SubPath { text: text.clone() });
    }
    Ok(path)
}
