//! Volumes: what containers of a pod may mount.

use crate::format;
use crate::quantity::Quantity;
use crate::v1::is_default;
use crate::v1::pod::env::{FieldRef, ResourceFieldRef};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;

/// A volume that containers of the pod may mount. Exactly one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = [
    "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "csi", "ephemeral", "fc", "flexVolume", "flocker",
    "gcePersistentDisk", "gitRepo", "glusterfs", "iscsi", "nfs", "persistentVolumeClaim", "photonPersistentDisk",
    "portworxVolume", "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume",
]))]
pub struct Volume {
    /// Name of the volume, for `volumeMounts`.
    #[schemars(with = "format::DnsLabel")]
    pub name: String,
    /// An empty directory that lives as long as the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
    /// A file or directory of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPath>,
    /// The keys of a `kind: ConfigMap` document as files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,
    /// The keys of a `kind: Secret` document as files, in memory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    /// Facts about the pod as files.
    #[serde(default, rename = "downwardAPI", skip_serializing_if = "Option::is_none")]
    pub downward_api: Option<DownwardVolume>,
    /// Several of these in one directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projected: Option<ProjectedVolume>,
    /// The files of an image, read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageVolume>,
}

/// An empty directory that lives as long as the pod, through restarts of its containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EmptyDir {
    /// Where the bytes are: on the VAR partition, or in memory with `Memory`.
    #[schemars(extend("default" = ""))]
    #[serde(skip_serializing_if = "is_default")]
    pub medium: Medium,
    /// Most bytes it may hold. On disk this is looked at every few seconds, and a pod that has more is evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}

/// What holds the bytes of an `emptyDir`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Medium {
    /// The VAR partition.
    #[default]
    #[serde(rename = "")]
    Disk,
    /// Memory (tmpfs), counted against the memory limit of whoever writes.
    Memory,
}

/// A file or directory of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPath {
    /// Its path on the node. What holds the node's secrets is refused.
    #[schemars(with = "format::AbsolutePath")]
    pub path: String,
    /// What has to be there.
    #[schemars(extend("default" = ""))]
    #[serde(default, rename = "type", skip_serializing_if = "is_default")]
    pub kind: HostPathType,
}

/// What no pod may see: the node's keys and configs, and what the agent keeps about pods.
const NODE_SECRETS: [&str; 2] = ["/state", "/var/lib/ingot"];

/// What only a container that is as good as the node may see: sockets of the agent, and what pods hold in memory.
const NODE_SOCKETS: [&str; 1] = ["/run/ingot"];

impl HostPath {
    /// What a path of the node would show to a pod that must not see it: a folder with secrets at the path, above it or
    /// below it. Every container of a `privileged` pod that sees the path is as good as the node.
    #[must_use]
    pub fn secret_behind(path: &str, privileged: bool) -> Option<&'static str> {
        let around = |inner: &str, outer: &str| {
            outer == "/"
                || inner == outer
                || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
        };
        let shows = |secret: &&&str| around(path, secret) || around(secret, path);
        let sockets = NODE_SOCKETS.iter().filter(|_| !privileged);
        NODE_SECRETS.iter().chain(sockets).find(shows).copied()
    }
}

/// What has to be at a path of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostPathType {
    /// Anything; a directory is made when nothing is there.
    #[default]
    #[serde(rename = "")]
    Any,
    /// A directory; it is made when nothing is there.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file; an empty one is made when nothing is there.
    FileOrCreate,
    /// A file.
    File,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// The keys of a ConfigMap as files. They change when the config does, all at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapVolume {
    /// Name of the ConfigMap, in the pod's namespace.
    #[schemars(with = "format::PodName")]
    pub name: String,
    /// Which keys, and where; all when not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<KeyToPath>,
    /// Mode of files that give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<FileMode>,
    /// The ConfigMap, or a key, may be absent from the config.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
}

/// The keys of a Secret as files, in memory only. They change when the config does, all at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretVolume {
    /// Name of the Secret, in the pod's namespace.
    #[schemars(with = "format::PodName")]
    pub secret_name: String,
    /// Which keys, and where; all when not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<KeyToPath>,
    /// Mode of files that give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<FileMode>,
    /// The Secret, or a key, may be absent from the config.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
}

/// A key and the file it becomes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyToPath {
    /// The key.
    #[schemars(with = "format::DataKey")]
    pub key: String,
    /// Path of the file in the volume.
    #[schemars(with = "format::RelativePath")]
    pub path: String,
    /// Its mode, instead of the volume's `defaultMode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FileMode>,
}

/// Facts about the pod as files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DownwardVolume {
    /// The files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<DownwardFile>,
    /// Mode of files that give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<FileMode>,
}

/// A fact about the pod as a file: either `fieldRef` or `resourceFieldRef`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DownwardFile {
    /// Path of the file in the volume.
    #[schemars(with = "format::RelativePath")]
    pub path: String,
    /// A field of the pod, like `metadata.labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
    /// A limit or request of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_field_ref: Option<ResourceFieldRef>,
    /// Its mode, instead of the volume's `defaultMode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FileMode>,
}

/// Several sources in one directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectedVolume {
    /// The sources. Of two with the same path, the later one wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Projection>,
    /// Mode of files that give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<FileMode>,
}

/// One source of a projected volume: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = ["clusterTrustBundle", "podCertificate", "serviceAccountToken"]))]
pub struct Projection {
    /// Keys of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ObjectProjection>,
    /// Keys of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectProjection>,
    /// Facts about the pod.
    #[serde(default, rename = "downwardAPI", skip_serializing_if = "Option::is_none")]
    pub downward_api: Option<DownwardProjection>,
}

/// Keys of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectProjection {
    /// Its name, in the pod's namespace.
    #[schemars(with = "format::PodName")]
    pub name: String,
    /// Which keys, and where; all when not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<KeyToPath>,
    /// It, or a key, may be absent from the config.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
}

/// Facts about the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DownwardProjection {
    /// The files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<DownwardFile>,
}

/// The files of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageVolume {
    /// Image reference.
    #[schemars(with = "format::ImageReference")]
    pub reference: String,
    /// When to fetch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<super::PullPolicy>,
}

/// The permission bits of a file: written in octal with a leading zero (`0644`), or as a decimal number (`420`), as upstream
/// reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FileMode {
    /// What a text means; `None` when it is no mode.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let octal =
            text.strip_prefix("0o").or(text.strip_prefix('0').filter(|rest| !rest.is_empty()));
        let digits = octal.unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let bits = u32::from_str_radix(digits, if octal.is_some() { 8 } else { 10 }).ok()?;
        (bits <= 0o777).then_some(Self(bits))
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0{:03o}", self.0))
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("is no file mode"))
    }
}

impl JsonSchema for FileMode {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "FileMode".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        format::FileModeText::json_schema(generator)
    }
}
