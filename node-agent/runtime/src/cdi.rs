//! The Container Device Interface: what a vendor says a device needs in a container, read from JSON files of the node and
//! applied to the container's config (github.com/cncf-tags/container-device-interface, 1.0).
//!
//! Hooks are refused: they are programs of the node that run with all rights, and this node has none to run. Blocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ingot_linux::beneath;
use serde::Deserialize;

use crate::config::{ContainerConfig, Device, Mount, MountSource};

/// Where descriptions are; those of a later folder replace those of an earlier one.
pub(crate) const FOLDERS: &[&str] = &["/etc/cdi", "/var/run/cdi"];

/// Longest description.
const LENGTH_MAX: usize = 4 << 20;

/// Most files in a folder.
const FILES_MAX: usize = 1024;

/// Why a device cannot be given to a container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CdiError {
    /// A folder or file of descriptions.
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A description that is none.
    #[error("understand {path}")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// Nobody describes it.
    #[error("no CDI description in {} has the device {name:?}", FOLDERS.join(" or "))]
    Unknown { name: String },
    /// It is described twice in one folder.
    #[error("the CDI device {name:?} is described more than once in {}", folder.display())]
    Twice { name: String, folder: PathBuf },
    /// It needs what is not done here.
    #[error("the CDI device {name:?} needs {what}, which this system does not run")]
    Unsupported { name: String, what: &'static str },
    /// An entry of its environment is no `NAME=value`.
    #[error("the CDI device {name:?} sets the variable {variable:?}, which is not NAME=value")]
    Environment { name: String, variable: String },
}

/// A file.
#[derive(Deserialize)]
struct File {
    kind: String,
    #[serde(default)]
    devices: Vec<Described>,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

/// What a device changes in a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<DeviceMount>,
    hooks: Vec<serde_json::Value>,
    additional_gids: Vec<u32>,
    net_devices: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceNode {
    path: PathBuf,
    #[serde(default)]
    host_path: Option<PathBuf>,
    #[serde(default)]
    permissions: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceMount {
    host_path: PathBuf,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
}

/// All devices that are described.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By full name: edits of the kind, then of the device.
    devices: BTreeMap<String, (Edits, Edits)>,
}

impl Registry {
    /// Reads the descriptions in `folders`; a folder that is not there has none.
    pub(crate) fn read(folders: &[impl AsRef<Path>]) -> Result<Self, CdiError> {
        let mut all = Self::default();
        for folder in folders {
            let folder = folder.as_ref();
            let mut here = BTreeMap::new();
            for path in descriptions(folder)? {
                for (name, edits) in read(&path)? {
                    if here.insert(name.clone(), edits).is_some() {
                        return Err(CdiError::Twice { name, folder: folder.to_owned() });
                    }
                }
            }
            all.devices.append(&mut here);
        }
        Ok(all)
    }

    /// Adds to `config` what its CDI devices need. What is common to a kind is added once.
    pub(crate) fn apply(&self, config: &mut ContainerConfig) -> Result<(), CdiError> {
        let mut kinds = Vec::new();
        for name in config.cdi_devices.clone() {
            let found = self.devices.get(&name);
            let (of_kind, of_device) =
                found.ok_or_else(|| CdiError::Unknown { name: name.clone() })?;
            let kind = name.split('=').next().unwrap_or_default().to_owned();
            if !kinds.contains(&kind) {
                edit(config, &name, of_kind)?;
                kinds.push(kind);
            }
            edit(config, &name, of_device)?;
        }
        Ok(())
    }
}

fn descriptions(folder: &Path) -> Result<Vec<PathBuf>, CdiError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(CdiError::Read { path: folder.to_owned(), source }),
    };
    let files = entries.flatten().take(FILES_MAX).map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    Ok(files)
}

/// A device by its full name, and what its file says for all devices and for this one.
type Named = (String, (Edits, Edits));

fn read(path: &Path) -> Result<Vec<Named>, CdiError> {
    let failed = |source| CdiError::Read { path: path.to_owned(), source };
    let root = beneath::folder(Path::new("/")).map_err(failed)?;
    let bytes = beneath::read(&root, path, LENGTH_MAX).map_err(failed)?;
    let file: File = serde_json::from_slice(&bytes)
        .map_err(|source| CdiError::Parse { path: path.to_owned(), source })?;
    let full = |device: Described| {
        (format!("{}={}", file.kind, device.name), (file.edits.clone(), device.edits))
    };
    Ok(file.devices.into_iter().map(full).collect())
}

fn edit(config: &mut ContainerConfig, name: &str, edits: &Edits) -> Result<(), CdiError> {
    let unsupported = |what| CdiError::Unsupported { name: name.to_owned(), what };
    if !edits.hooks.is_empty() {
        return Err(unsupported("hooks"));
    }
    if !edits.net_devices.is_empty() {
        return Err(unsupported("network devices moved into the pod"));
    }
    for variable in &edits.env {
        let (key, value) = variable.split_once('=').ok_or_else(|| CdiError::Environment {
            name: name.to_owned(),
            variable: variable.clone(),
        })?;
        config.env.push((key.to_owned(), value.as_bytes().to_vec()));
    }
    for node in &edits.device_nodes {
        config.devices.push(Device {
            host_path: node.host_path.clone().unwrap_or_else(|| node.path.clone()),
            container_path: node.path.clone(),
            permissions: node.permissions.clone().unwrap_or_else(|| "rwm".to_owned()),
        });
    }
    for mount in &edits.mounts {
        config.mounts.push(Mount {
            container_path: mount.container_path.clone(),
            source: MountSource::Host(mount.host_path.clone()),
            read_only: mount.options.iter().any(|option| option == "ro" || option == "rro"),
            ..Mount::default()
        });
    }
    config.security.supplemental_groups.extend(&edits.additional_gids);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = r#"{
        "cdiVersion": "0.6.0",
        "kind": "example.com/gpu",
        "containerEdits": { "env": ["DRIVER=1"] },
        "devices": [
            { "name": "0", "containerEdits": {
                "deviceNodes": [{ "path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw" }],
                "mounts": [{ "hostPath": "/usr/lib/gpu", "containerPath": "/lib/gpu", "options": ["ro", "bind"] }],
                "additionalGids": [44]
            } },
            { "name": "1", "containerEdits": { "env": ["SECOND=yes"] } }
        ]
    }"#;

    fn registry(texts: &[&str]) -> (tempfile::TempDir, Result<Registry, CdiError>) {
        let folder = tempfile::tempdir().unwrap();
        for (number, text) in texts.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{number}.json")), text).unwrap();
        }
        let registry = Registry::read(&[folder.path()]);
        (folder, registry)
    }

    fn container(devices: &[&str]) -> ContainerConfig {
        let cdi_devices = devices.iter().map(|name| (*name).to_owned()).collect();
        ContainerConfig { cdi_devices, ..ContainerConfig::default() }
    }

    #[test]
    fn a_device_brings_its_nodes_mounts_variables_and_groups() {
        let (_folder, registry) = registry(&[GPU]);
        let mut config = container(&["example.com/gpu=0", "example.com/gpu=1"]);
        registry.unwrap().apply(&mut config).unwrap();
        let names: Vec<&str> = config.env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["DRIVER", "SECOND"]);
        assert_eq!(config.devices[0].host_path, Path::new("/dev/null"));
        assert_eq!(config.devices[0].container_path, Path::new("/dev/gpu0"));
        assert!(config.mounts[0].read_only);
        assert_eq!(config.security.supplemental_groups, [44]);
    }

    #[test]
    fn a_device_that_nobody_describes_is_refused() {
        let (_folder, registry) = registry(&[GPU]);
        let refused = registry.unwrap().apply(&mut container(&["example.com/gpu=2"]));
        assert!(matches!(refused, Err(CdiError::Unknown { .. })));
        let nowhere = Registry::read(&["/nowhere/cdi"]).unwrap();
        assert!(nowhere.apply(&mut container(&["a/b=c"])).is_err());
    }

    #[test]
    fn cve_2026_53492_hooks_of_a_description_are_never_run() {
        let text = GPU.replace(
            r#""env": ["SECOND=yes"]"#,
            r#""hooks": [{ "hookName": "createContainer", "path": "/bin/sh" }]"#,
        );
        let (_folder, registry) = registry(&[&text]);
        let refused = registry.unwrap().apply(&mut container(&["example.com/gpu=1"]));
        assert!(matches!(refused, Err(CdiError::Unsupported { what: "hooks", .. })));
    }

    #[test]
    fn a_device_described_twice_is_nobodys() {
        let (_folder, registry) = registry(&[GPU, GPU]);
        assert!(matches!(registry, Err(CdiError::Twice { .. })));
    }
}
