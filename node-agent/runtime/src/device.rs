//! Device nodes of the node that a container gets: found, described, and what they permit.
//!
//! Blocks: it looks into /dev.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ingot_linux::device_rules::{DeviceRule, DeviceRules};
use serde_json::{Value, json};

use crate::config::Device;

/// Folders of /dev that are not devices of the node but file systems of their own.
const OTHERS: &[&str] = &["pts", "shm", "fd", "mqueue", "hugepages", ".lxc", ".lxd-mounts"];

/// Nodes that every container has of its own.
const OWN: &[&str] = &["ptmx", "console", "tty", "null", "zero", "full", "random", "urandom"];

/// What every container may do with devices, as with runc. A node alone is harmless: opening it asks again.
const HARMLESS: &[DeviceRule] = &[
    DeviceRule { read: false, write: false, ..harmless(None, None) },
    DeviceRule { read: false, write: false, block: true, ..harmless(None, None) },
    harmless(Some(1), Some(3)), // null
    harmless(Some(1), Some(5)), // zero
    harmless(Some(1), Some(7)), // full
    harmless(Some(1), Some(8)), // random
    harmless(Some(1), Some(9)), // urandom
    harmless(Some(5), Some(0)), // tty
    harmless(Some(5), Some(2)), // ptmx
    harmless(Some(136), None),  // pseudo terminals
];

const fn harmless(major: Option<u32>, minor: Option<u32>) -> DeviceRule {
    DeviceRule { block: false, major, minor, read: true, write: true, make: true }
}

/// Lists of rules that are kept ready: nearly all containers have the same.
const RULES_KEPT_MAX: usize = 8;

/// Most nodes that a folder gives: one more means that it is not a folder of devices.
const NODES_MAX: usize = 4096;

/// How deep folders of devices are looked into.
const DEPTH_MAX: usize = 4;

/// Why a device cannot be given to a container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// It is not there.
    #[error("look at device {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{path} is neither a device nor a folder of devices")]
    NoDevice { path: PathBuf },
    /// Its permissions are not some of `r`, `w` and `m`.
    #[error("{permissions:?} are no permissions of a device; write some of r, w and m")]
    Permissions { permissions: String },
    /// The kernel does not take the rules for devices.
    #[error("set the rules for devices")]
    Rules(#[source] std::io::Error),
    /// A folder with more than devices.
    #[error("{path} holds more than {NODES_MAX} files")]
    TooMany { path: PathBuf },
}

/// A device node in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Path on the node.
    pub(crate) host_path: PathBuf,
    /// Path in the container.
    pub(crate) container_path: PathBuf,
    /// A block device, not a character device.
    pub(crate) block: bool,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Rights of the node, as for chmod(2).
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Some of `r`, `w`, `m`.
    pub(crate) permissions: String,
}

impl Node {
    /// As the OCI spec has it.
    pub(crate) fn to_spec(&self) -> Value {
        json!({
            "path": self.container_path,
            "type": if self.block { "b" } else { "c" },
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        })
    }

    /// What the cgroup has to permit.
    pub(crate) fn rule(&self) -> DeviceRule {
        DeviceRule {
            block: self.block,
            major: Some(self.major),
            minor: Some(self.minor),
            read: self.permissions.contains('r'),
            write: self.permissions.contains('w'),
            make: self.permissions.contains('m'),
        }
    }
}

/// Rules that the kernel has taken, newest last, each with what it was made of.
#[derive(Default)]
pub(crate) struct KnownRules(Mutex<Vec<(Vec<DeviceRule>, Arc<DeviceRules>)>>);

impl KnownRules {
    /// Refuses to the processes of a cgroup every device but the harmless ones and these.
    pub(crate) fn set(&self, cgroup: &Path, nodes: &[Node]) -> Result<(), DeviceError> {
        let own = nodes.iter().map(Node::rule);
        let rules: Vec<DeviceRule> = HARMLESS.iter().copied().chain(own).collect();
        self.loaded(rules).and_then(|loaded| loaded.attach(cgroup)).map_err(DeviceError::Rules)
    }

    fn loaded(&self, rules: Vec<DeviceRule>) -> std::io::Result<Arc<DeviceRules>> {
        let find = |all: &[(Vec<DeviceRule>, Arc<DeviceRules>)]| {
            all.iter().find(|(of, _)| *of == rules).map(|(_, loaded)| loaded.clone())
        };
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = find(&all()) {
            return Ok(known);
        }
        let loaded = Arc::new(DeviceRules::load(&rules)?);
        let mut all = all();
        if all.len() >= RULES_KEPT_MAX {
            // The first was made for the first container of all, which hardly had devices of its own.
            all.remove(1);
        }
        all.push((rules, loaded.clone()));
        Ok(loaded)
    }
}

/// The nodes of a list of devices; a folder gives all that are in it.
pub(crate) fn find(devices: &[Device]) -> Result<Vec<Node>, DeviceError> {
    let mut nodes = Vec::new();
    for device in devices {
        let permissions = device.permissions.as_str();
        if permissions.is_empty() || !permissions.bytes().all(|b| b"rwm".contains(&b)) {
            return Err(DeviceError::Permissions { permissions: permissions.to_owned() });
        }
        let path = &device.host_path;
        let read = |source| DeviceError::Read { path: path.clone(), source };
        // Links are followed: /dev/disk/by-id/... is how a person names a disk.
        let metadata = std::fs::metadata(path).map_err(read)?;
        if metadata.is_dir() {
            walk(path, &device.container_path, permissions, DEPTH_MAX, &mut nodes)?;
        } else {
            let node = node(path, &device.container_path, permissions, &metadata);
            nodes.push(node.ok_or_else(|| DeviceError::NoDevice { path: path.clone() })?);
        }
    }
    Ok(without_doubles(nodes))
}

/// All devices of the node, for a privileged container.
pub(crate) fn all() -> Result<Vec<Node>, DeviceError> {
    let mut nodes = Vec::new();
    walk(Path::new("/dev"), Path::new("/dev"), "rwm", DEPTH_MAX, &mut nodes)?;
    Ok(without_doubles(nodes))
}

/// A later node replaces an earlier one at the same place.
fn without_doubles(nodes: Vec<Node>) -> Vec<Node> {
    let mut result: Vec<Node> = Vec::with_capacity(nodes.len());
    let mut places = std::collections::HashMap::new();
    for node in nodes {
        match places.get(&node.container_path).and_then(|at: &usize| result.get_mut(*at)) {
            Some(old) => *old = node,
            None => {
                places.insert(node.container_path.clone(), result.len());
                result.push(node);
            }
        }
    }
    result
}

fn walk(
    from: &Path,
    to: &Path,
    permissions: &str,
    depth: usize,
    nodes: &mut Vec<Node>,
) -> Result<(), DeviceError> {
    let read = |source| DeviceError::Read { path: from.to_owned(), source };
    let own = from == Path::new("/dev");
    for (count, entry) in std::fs::read_dir(from).map_err(read)?.enumerate() {
        if count >= NODES_MAX {
            return Err(DeviceError::TooMany { path: from.to_owned() });
        }
        let entry = entry.map_err(read)?;
        let name = entry.file_name();
        let is = |list: &[&str]| own && list.iter().any(|other| name == **other);
        if is(OTHERS) || is(OWN) {
            continue;
        }
        // What goes away meanwhile is not there; links are left out, as they may lead anywhere.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            if depth > 0 {
                walk(&entry.path(), &to.join(&name), permissions, depth - 1, nodes)?;
            }
        } else if let Some(node) = node(&entry.path(), &to.join(&name), permissions, &metadata) {
            nodes.push(node);
        }
    }
    Ok(())
}

fn node(from: &Path, to: &Path, permissions: &str, metadata: &std::fs::Metadata) -> Option<Node> {
    let kind = metadata.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return None;
    }
    Some(Node {
        host_path: from.to_owned(),
        container_path: to.to_owned(),
        block: kind.is_block_device(),
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        permissions: permissions.to_owned(),
    })
}

#[cfg(test)]
mod tests;
