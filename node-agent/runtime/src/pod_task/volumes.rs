//! Making the volumes of a pod before a container is built: folders on disk, files from the config, what has to be at a
//! path of the node. Blocks: it runs where that is allowed.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use ingot_machine_config::v1::pod::{HostPath, HostPathType, Medium, PodSpec};

use super::files::{self, Files, Owner};
use crate::pod::Source;

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    /// A folder or file of it.
    #[error("make {path}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Its files.
    #[error(transparent)]
    Files(#[from] files::WriteError),
    /// Something else is at the path of the node, or nothing.
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    Type { path: PathBuf, wanted: &'static str },
    /// A link leads to what no pod may see.
    #[error("{path} leads to {real}, which holds secrets of the node")]
    Secret { path: PathBuf, real: PathBuf },
}

/// What is to be made.
pub(super) struct SetUp {
    /// Folder of the volumes on disk.
    pub(super) on_disk: PathBuf,
    /// Folder of the volumes made of files.
    pub(super) in_files: PathBuf,
    /// Those, by name.
    pub(super) files: Vec<(String, Files)>,
    pub(super) owner: Owner,
    /// The file for the container's last words.
    pub(super) message: Option<PathBuf>,
    pub(super) spec: PodSpec,
    pub(super) source: Source,
}

impl SetUp {
    /// Makes everything that is not there yet.
    pub(super) fn make(&self) -> Result<(), VolumeError> {
        for volume in &self.spec.volumes {
            let on_disk = volume.empty_dir.as_ref().is_some_and(|e| e.medium == Medium::Disk);
            if on_disk {
                empty_dir(&self.on_disk.join(&volume.name), self.owner)?;
            }
            if let Some(host) = &volume.host_path {
                // Programs of the cluster get what the agent has made for them, which no other pod may see.
                let trusted = self.source == Source::ControlPlane;
                host_path(host, self.is_privileged(&volume.name), trusted)?;
            }
        }
        self.write_files()?;
        if let Some(message) = &self.message {
            make_parent(message)?;
            make_file(message, 0o666)?;
        }
        Ok(())
    }

    /// Only what comes from the config: it may have changed.
    pub(super) fn write_files(&self) -> Result<(), VolumeError> {
        for (name, files) in &self.files {
            files::write(&self.in_files.join(name), files, self.owner)?;
        }
        Ok(())
    }

    fn is_privileged(&self, volume: &str) -> bool {
        let containers = self.spec.init_containers.iter().chain(&self.spec.containers);
        let mut users = containers.filter(|c| c.volume_mounts.iter().any(|m| m.name == volume));
        users.all(|container| container.security_context.privileged)
    }
}

/// A volume belongs to whoever runs in the pod, so everybody may write, as in Kubernetes; files made in it belong to the
/// pod's group, when it has one.
fn empty_dir(path: &Path, owner: Owner) -> Result<(), VolumeError> {
    if path.is_dir() {
        return Ok(());
    }
    let failed = |source| VolumeError::Make { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let mode = if let Some(group) = owner.group {
        std::os::unix::fs::chown(path, None, Some(group)).map_err(failed)?;
        0o2777
    } else {
        0o777
    };
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

fn host_path(host: &HostPath, privileged: bool, trusted: bool) -> Result<(), VolumeError> {
    let path = Path::new(&host.path);
    let found = std::fs::metadata(path).map(|metadata| metadata.file_type());
    let (fits, wanted) = match (&found, host.kind) {
        (_, HostPathType::Any) => (true, ""),
        (Ok(kind), HostPathType::Directory | HostPathType::DirectoryOrCreate) => {
            (kind.is_dir(), "directory")
        }
        (Ok(kind), HostPathType::File | HostPathType::FileOrCreate) => (kind.is_file(), "file"),
        (Ok(kind), HostPathType::Socket) => (kind.is_socket(), "socket"),
        (Ok(kind), HostPathType::CharDevice) => (kind.is_char_device(), "character device"),
        (Ok(kind), HostPathType::BlockDevice) => (kind.is_block_device(), "block device"),
        (Err(_), HostPathType::DirectoryOrCreate | HostPathType::FileOrCreate) => (true, ""),
        (Err(_), HostPathType::Directory) => (false, "directory"),
        (Err(_), HostPathType::File) => (false, "file"),
        (Err(_), HostPathType::Socket) => (false, "socket"),
        (Err(_), HostPathType::CharDevice) => (false, "character device"),
        (Err(_), HostPathType::BlockDevice) => (false, "block device"),
    };
    if !fits {
        return Err(VolumeError::Type { path: path.to_owned(), wanted });
    }
    if found.is_err() {
        let failed = |source| VolumeError::Make { path: path.to_owned(), source };
        match host.kind {
            HostPathType::FileOrCreate => make_file(path, 0o644)?,
            _ => DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?,
        }
    }
    // The config check saw the path as it is written; links of the node may lead elsewhere.
    let real = path
        .canonicalize()
        .map_err(|source| VolumeError::Make { path: path.to_owned(), source })?;
    if !trusted && HostPath::secret_behind(&real.to_string_lossy(), privileged).is_some() {
        return Err(VolumeError::Secret { path: path.to_owned(), real });
    }
    Ok(())
}

fn make_parent(path: &Path) -> Result<(), VolumeError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let failed = |source| VolumeError::Make { path: parent.to_owned(), source };
    // A pod's root that is nobody on the node has to pass through.
    DirBuilder::new().recursive(true).mode(0o711).create(parent).map_err(failed)
}

fn make_file(path: &Path, mode: u32) -> Result<(), VolumeError> {
    let failed = |source| VolumeError::Make { path: path.to_owned(), source };
    let file =
        OpenOptions::new().create(true).append(true).mode(mode).open(path).map_err(failed)?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed)
}
