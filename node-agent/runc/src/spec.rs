//! The description of a container, `config.json`: the part of the OCI form that the agent writes. Only types.
//!
//! What is not known here is an error and never ignored: a container without a restriction that somebody has asked for would
//! look like one that has it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::seccomp::Source;

/// A container.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Spec {
    #[serde(rename = "ociVersion")]
    _version: String,
    pub(crate) root: Root,
    pub(crate) process: Process,
    #[serde(default)]
    pub(crate) mounts: Vec<Mount>,
    #[serde(default)]
    pub(crate) linux: Linux,
}

impl Spec {
    /// Reads the one of a bundle.
    pub(crate) fn read(bundle: &Path) -> anyhow::Result<Self> {
        let path = bundle.join("config.json");
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&bytes)
    }

    /// Where the profile of its system calls is; `file` is the one beside the spec.
    pub(crate) fn seccomp<'a>(&'a self, file: &'a Path) -> Option<Source<'a>> {
        self.linux.seccomp.as_deref().map(|digest| Source { digest, file })
    }

    pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(bytes).context("understand the container's config.json")
    }
}

/// Where its root is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Root {
    #[serde(rename = "path")]
    _path: PathBuf,
    #[serde(default)]
    pub(crate) readonly: bool,
}

/// Its program, and who that runs as.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Process {
    /// Said by the request, too.
    #[serde(default, rename = "terminal")]
    _terminal: bool,
    pub(crate) user: User,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    #[serde(default = "root_folder")]
    pub(crate) cwd: String,
    /// Never left out: a process without this would keep all.
    pub(crate) capabilities: Capabilities,
    #[serde(default)]
    pub(crate) rlimits: Vec<Limit>,
    #[serde(default)]
    pub(crate) no_new_privileges: bool,
    #[serde(default)]
    pub(crate) apparmor_profile: String,
    pub(crate) oom_score_adj: Option<i32>,
}

fn root_folder() -> String {
    "/".to_owned()
}

/// Whose process it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    #[serde(default)]
    pub(crate) additional_gids: Vec<u32>,
    pub(crate) umask: Option<u32>,
}

/// Capability sets by name; what is not there is empty.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Capabilities {
    pub(crate) bounding: Vec<String>,
    pub(crate) effective: Vec<String>,
    pub(crate) inheritable: Vec<String>,
    pub(crate) permitted: Vec<String>,
    pub(crate) ambient: Vec<String>,
}

/// A limit of the process.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Something that is mounted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) destination: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) source: PathBuf,
    #[serde(default)]
    pub(crate) options: Vec<String>,
}

/// What only Linux has.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Linux {
    /// The request has its folder.
    #[serde(default, rename = "cgroupsPath")]
    _cgroups_path: String,
    #[serde(default)]
    pub(crate) namespaces: Vec<Namespace>,
    #[serde(default)]
    pub(crate) devices: Vec<Device>,
    #[serde(default)]
    pub(crate) rootfs_propagation: RootPropagation,
    #[serde(default)]
    pub(crate) masked_paths: Vec<String>,
    #[serde(default)]
    pub(crate) readonly_paths: Vec<String>,
    /// Digest of the profile of its system calls, whose text is in a file beside the spec.
    pub(crate) seccomp: Option<String>,
}

/// Whether mounts made in the container can travel out of it at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RootPropagation {
    #[default]
    Slave,
    Shared,
}

/// A namespace of its own, or one that is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Namespace {
    #[serde(rename = "type")]
    pub(crate) kind: NamespaceKind,
    /// `None`: a new one.
    pub(crate) path: Option<PathBuf>,
}

/// Kinds of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NamespaceKind {
    Mount,
    Cgroup,
    Pid,
    Ipc,
    Uts,
    Network,
    User,
}

/// A device node.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) path: String,
    #[serde(rename = "type")]
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) file_mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Kinds of devices.
#[derive(Clone, Copy, Deserialize)]
pub(crate) enum DeviceKind {
    #[serde(rename = "b")]
    Block,
    #[serde(rename = "c")]
    Character,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{"ociVersion": "1.2.0", "root": {"path": "/r"},
        "process": {"user": {"uid": 0, "gid": 0}, "capabilities": {}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"maskedPaths": ["/proc/keys"], "rootfsPropagation": "slave"}}"#;

    #[test]
    fn what_is_not_known_is_refused_and_never_ignored() {
        assert!(Spec::parse(SPEC.as_bytes()).is_ok());
        for (from, to) in [
            ("\"linux\"", "\"hooks\": {}, \"linux\""),
            ("\"maskedPaths\"", "\"sysctl\": {}, \"maskedPaths\""),
            ("\"capabilities\"", "\"ioPriority\": {}, \"capabilities\""),
            ("\"slave\"", "\"unbindable\""),
            ("\"source\"", "\"uidMappings\": [], \"source\""),
        ] {
            assert!(Spec::parse(SPEC.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn a_spec_that_does_not_say_which_rights_is_refused() {
        let spec = SPEC.replace(", \"capabilities\": {}", "");
        assert!(spec.len() < SPEC.len() && Spec::parse(spec.as_bytes()).is_err());
    }
}
