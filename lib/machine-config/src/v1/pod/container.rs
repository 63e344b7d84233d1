//! One container of a pod: what it executes, as whom, and how much it may use.

use crate::format;
use crate::quantity::Quantity;
use crate::v1::is_default;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = [
    "envFrom", "lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy", "restartPolicy",
    "restartPolicyRules", "startupProbe", "stdin", "stdinOnce", "terminationMessagePath", "terminationMessagePolicy",
    "tty", "volumeDevices",
]))]
pub struct Container {
    /// Name of the container, unique in the pod.
    #[schemars(with = "format::DnsLabel")]
    pub name: String,
    /// Image reference, like `ingot/workload:latest`. The images of this release are those in the root image.
    #[schemars(with = "format::ImageReference")]
    pub image: String,
    /// What to execute, instead of the image's entry point.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments, instead of the image's.
    #[schemars(length(max = 4096))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables, besides the image's. `$(NAME)` in a value, in `command` and in `args` stands for an
    /// earlier variable.
    #[schemars(length(max = 1024))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Directory to start in, instead of the image's.
    #[schemars(with = "Option<format::AbsolutePath>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// How much CPU and memory the container may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Volumes of the pod to mount into the container.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// As whom and with which rights the container runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security_context: SecurityContext,
    /// When to fetch the image. With images from the root image only, all three find the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = ["valueFrom"]))]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(with = "format::EnvName")]
    pub name: String,
    /// Its value; a text, so numbers need quotes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// How much CPU and memory a container may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-ingot-unsupported" = ["claims"]))]
pub struct Resources {
    /// The most it may use. Above the CPU limit it is slowed down; above the memory limit it is killed.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: ResourceList,
    /// What it is given when the node is busy. When not given, the same as the limits.
    #[serde(skip_serializing_if = "is_default")]
    pub requests: ResourceList,
}

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-ingot-unsupported" = ["ephemeral-storage", "hugepages-1Gi", "hugepages-2Mi"]))]
pub struct ResourceList {
    /// CPUs, like `250m` (a quarter of one) or `2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes of memory, like `64Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// Mounts a volume of the pod into a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = ["mountPropagation", "recursiveReadOnly", "subPath", "subPathExpr"]))]
pub struct VolumeMount {
    /// Name of the volume, from `volumes` of the pod.
    #[schemars(with = "format::DnsLabel")]
    pub name: String,
    /// Where in the container it appears.
    #[schemars(with = "format::AbsolutePath")]
    pub mount_path: String,
    /// The container may not write to it.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// As whom and with which rights a container runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-ingot-unsupported" = [
    "appArmorProfile", "procMount", "runAsNonRoot", "seLinuxOptions", "seccompProfile", "windowsOptions",
]))]
pub struct SecurityContext {
    /// User id of the first process, instead of the image's.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// Group id of the first process, instead of the image's.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// The container may write only to its volumes.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "is_default")]
    pub read_only_root_filesystem: bool,
    /// Linux capabilities besides or without the default ones.
    #[serde(skip_serializing_if = "is_default")]
    pub capabilities: Capabilities,
    /// All capabilities and all devices: as good as the node itself.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "is_default")]
    pub privileged: bool,
    /// Whether set-user-id programs and the like may give a process more rights than its parent. When not given: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
}

/// Changes to the default set of Linux capabilities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Capabilities {
    /// Capabilities to add, like `NET_ADMIN`, or `ALL`.
    #[schemars(with = "Vec<format::Capability>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Capabilities to take away, or `ALL`. What is also added stays.
    #[schemars(with = "Vec<format::Capability>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

/// When to fetch an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At each start of the container.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Not at all: an absent image is an error.
    Never,
}
