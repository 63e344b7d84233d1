//! What a container has mounted, and what of that the helper has to prepare. Pure.

use ingot_runc_api as api;
use serde_json::{Value, json};

use super::{Input, SpecError};
use crate::config::{IdMapping, Mount, MountSource, NamespaceMode, Propagation, UserNamespace};

/// The mounts of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mounts {
    /// For the spec.
    pub(super) spec: Vec<Value>,
    /// For the helper, in the order of their numbers.
    pub(crate) staged: Vec<api::Mount>,
    /// Those that the helper puts in place itself: number and place.
    pub(crate) late: Vec<(usize, String)>,
    /// One of them makes mounts of the container appear on the node.
    pub(crate) shared: bool,
}

/// Folders that belong to the kernel: nothing of a caller's may be put over them or into them (CVE-2019-16884).
const KERNEL_FOLDERS: &[&str] = &["/proc"];

/// All mounts: those that every container has, then those that were asked for, the shorter paths first so that none hides
/// another.
pub(super) fn build(input: &Input<'_>) -> Result<Mounts, SpecError> {
    let mut wanted: Vec<(String, &Mount)> = Vec::new();
    for mount in &input.config.mounts {
        let path = normal_path(&mount.container_path)?;
        let below = |folder: &&str| path == **folder || path.starts_with(&format!("{folder}/"));
        if path == "/" || KERNEL_FOLDERS.iter().any(below) {
            return Err(SpecError::MountPoint { path });
        }
        check(mount, input)?;
        wanted.push((path, mount));
    }
    // Stable: two at the same place keep their order.
    wanted.sort_by_key(|(path, _)| path.matches('/').count());
    let mut mounts = Mounts::default();
    for base in base(input) {
        let at = base["destination"].as_str().unwrap_or_default();
        // What was asked for wins: the image's owner knows better.
        if at == "/dev" || !wanted.iter().any(|(path, _)| path == at) {
            mounts.spec.push(base);
        }
    }
    for (path, mount) in wanted {
        add(&mut mounts, path, mount, input)?;
    }
    Ok(mounts)
}

/// Combinations that cannot be had.
fn check(mount: &Mount, input: &Input<'_>) -> Result<(), SpecError> {
    let path = || mount.container_path.clone();
    if mount.recursive_read_only && (!mount.read_only || mount.propagation != Propagation::Private)
    {
        return Err(SpecError::RecursiveReadOnly { path: path() });
    }
    if mount.propagation == Propagation::Bidirectional {
        if !input.config.security.privileged {
            return Err(SpecError::Bidirectional { path: path() });
        }
        if input.sandbox.namespaces.user.is_some() {
            return Err(SpecError::BidirectionalInUserNamespace { path: path() });
        }
    }
    Ok(())
}

fn add(
    mounts: &mut Mounts,
    path: String,
    mount: &Mount,
    input: &Input<'_>,
) -> Result<(), SpecError> {
    let read_only = mount.read_only;
    let (source, read_only) = match &mount.source {
        MountSource::Tmpfs(size) => {
            let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "mode=1777".to_owned()];
            options.extend(size.map(|size| format!("size={size}")));
            options.extend(read_only.then(|| "ro".to_owned()));
            mounts.spec.push(json!({
                "destination": path, "type": "tmpfs", "source": "tmpfs", "options": options,
            }));
            return Ok(());
        }
        MountSource::Host(from) => (api::MountSource::Host(from.clone()), read_only),
        MountSource::Inside { root, sub_path } => {
            let sub_path = relative_path(sub_path)?;
            (api::MountSource::Inside { root: root.clone(), sub_path, make: true }, read_only)
        }
        MountSource::Memory { name, sub_path } => {
            if !input.sandbox.memory_volumes.contains_key(name) {
                return Err(SpecError::NoVolume { volume: name.clone() });
            }
            let (root, sub_path) = (input.volumes.join(name), relative_path(sub_path)?);
            (api::MountSource::Inside { root, sub_path, make: true }, read_only)
        }
        MountSource::Image { image, sub_path } => {
            let found = input.images.iter().find(|(name, _)| name == image);
            let (_, layers) = found.ok_or_else(|| SpecError::NoImage { image: image.clone() })?;
            let sub_path = relative_path(sub_path)?;
            (api::MountSource::Image { layers: layers.clone(), sub_path }, true)
        }
    };
    let number = mounts.staged.len();
    if path == "/dev" {
        // The helper makes its nodes and links in what it mounts there: that must be the container's own.
        mounts.late.push((number, path.clone()));
    } else {
        mounts.spec.push(json!({
            "destination": path,
            "type": "bind",
            "source": input.stage.join(number.to_string()),
            "options": ["rbind"],
        }));
    }
    mounts.shared |= mount.propagation == Propagation::Bidirectional;
    mounts.staged.push(api::Mount {
        source,
        read_only,
        recursive_read_only: mount.recursive_read_only,
        propagation: match mount.propagation {
            Propagation::Private => api::Propagation::Private,
            Propagation::HostToContainer => api::Propagation::Slave,
            Propagation::Bidirectional => api::Propagation::Shared,
        },
        mappings: mount.id_mapping.as_ref().map(mappings),
    });
    Ok(())
}

/// Ids for the helper.
pub(crate) fn mappings(user: &UserNamespace) -> api::Mappings {
    let range = |range: IdMapping| api::IdMapping {
        inside: range.container_id,
        outside: range.host_id,
        count: range.length,
    };
    api::Mappings { uids: range(user.uids), gids: range(user.gids) }
}

/// What every container has.
fn base(input: &Input<'_>) -> Vec<Value> {
    let security = &input.config.security;
    let namespaces = &input.sandbox.namespaces;
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let system = if security.privileged { "rw" } else { "ro" };
    let closed = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&closed[..], more].concat();
    let mut list = vec![
        mount("/proc", "proc", "proc", &closed),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &closed),
    ];
    if namespaces.user.is_some() && namespaces.network == NamespaceMode::Node {
        // Only who owns the network namespace may mount sysfs.
        list.push(mount("/sys", "bind", "/sys", &["rbind", "nosuid", "noexec", "nodev", "rro"]));
    } else {
        list.push(mount("/sys", "sysfs", "sysfs", &with(&[system])));
        list.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &with(&["relatime", system])));
    }
    list.push(json!({
        "destination": "/dev/shm",
        "type": "bind",
        "source": input.shm,
        "options": ["rbind", "nosuid", "noexec", "nodev", "rw"],
    }));
    let access = if security.read_only_root { "ro" } else { "rw" };
    for file in ["resolv.conf", "hosts", "hostname"] {
        list.push(json!({
            "destination": format!("/etc/{file}"),
            "type": "bind",
            "source": input.etc.join(file),
            "options": ["rbind", "nosuid", "noexec", "nodev", access],
        }));
    }
    list
}

/// An absolute path without `.`, `..`, empty parts and a slash at the end.
///
/// # Errors
/// When it is relative, goes up, or holds a zero byte.
pub(crate) fn normal_path(path: &str) -> Result<String, SpecError> {
    let wrong = || SpecError::Path { path: path.to_owned() };
    if !path.starts_with('/') || path.contains('\0') {
        return Err(wrong());
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(wrong());
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A relative path without `..`; may be empty.
fn relative_path(path: &str) -> Result<std::path::PathBuf, SpecError> {
    if path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..") {
        return Err(SpecError::Path { path: path.to_owned() });
    }
    Ok(path.into())
}
