//! One container of a pod: what it executes, as whom, and how much it may use.

use crate::format;
use crate::quantity::Quantity;
use crate::v1::is_default;
use crate::v1::pod::env::{EnvFrom, EnvVar};
use crate::v1::pod::probe::{Lifecycle, Probe};
use crate::v1::pod::security::SecurityContext;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = ["resizePolicy", "restartPolicyRules", "volumeDevices"]))]
pub struct Container {
    /// Name of the container, unique in the pod.
    #[schemars(with = "format::DnsLabel")]
    pub name: String,
    /// Image reference, like `ingot/workload:latest`.
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
    /// ConfigMaps and Secrets whose keys become variables; `env` wins, and of these the later one.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFrom>,
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
    /// When to fetch the image. When not given: `Always` for the tag `latest`, else `IfNotPresent`. An image in the root
    /// image is never fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Ports the container listens on. All can be reached without being listed; listed ones have names, and may be ports
    /// of the node as well.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ContainerPort>,
    /// For an init container: `Always` makes it a sidecar, which is started before the containers, is kept running beside
    /// them, and is stopped after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<SidecarPolicy>,
    /// Until it passes, the container has not started, and the other probes wait. When it fails, the container is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// When it fails, the container is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// The container is ready while it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// What is done at its start and end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lifecycle: Lifecycle,
    /// File in the container whose content is told in the status when the container has ended; `/dev/termination-log` when
    /// not given.
    #[schemars(with = "Option<format::AbsolutePath>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_message_path: Option<String>,
    /// What is told when that file is empty.
    #[schemars(extend("default" = "File"))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub termination_message_policy: TerminationMessagePolicy,
    /// Keep standard input open, for `ingotctl attach`.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdin: bool,
    /// Close standard input when the first attach ends.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdin_once: bool,
    /// Give the container a terminal.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub tty: bool,
}

/// A port a container listens on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerPort {
    /// Name, for probes and hooks; unique in the pod.
    #[schemars(with = "Option<format::PortName>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port.
    #[schemars(range(min = 1, max = 65_535))]
    pub container_port: u16,
    /// Port of the node that leads to it.
    #[schemars(range(min = 1, max = 65_535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// Address of the node on which it does; all when not given.
    #[serde(default, rename = "hostIP", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<format::Ip>")]
    pub host_ip: Option<String>,
    /// Transport.
    #[schemars(extend("default" = "TCP"))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp,
}

/// Makes an init container a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SidecarPolicy {
    /// Whatever its exit code, as long as the pod lives.
    Always,
}

/// What is told of an ended container whose message file is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TerminationMessagePolicy {
    /// Nothing.
    #[default]
    File,
    /// The end of its log, when it failed.
    FallbackToLogsOnError,
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
pub struct ResourceList {
    /// CPUs, like `250m` (a quarter of one) or `2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes of memory, like `64Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Bytes on disk, like `1Gi`: writable layer and logs. Looked at every few seconds; a pod that has more is evicted.
    #[serde(rename = "ephemeral-storage", skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<Quantity>,
    /// Bytes in huge pages of 2 MiB.
    #[serde(rename = "hugepages-2Mi", skip_serializing_if = "Option::is_none")]
    pub hugepages_2mi: Option<Quantity>,
    /// Bytes in huge pages of 1 GiB.
    #[serde(rename = "hugepages-1Gi", skip_serializing_if = "Option::is_none")]
    pub hugepages_1gi: Option<Quantity>,
}

/// Mounts a volume of the pod into a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
    /// Whether `readOnly` holds for mounts below it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive_read_only: Option<RecursiveReadOnly>,
    /// Path in the volume to mount instead of its root. What is mounted so does not follow changes of a ConfigMap or Secret.
    #[schemars(with = "Option<format::RelativePath>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// The same, with `$(NAME)` standing for a variable of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path_expr: Option<String>,
    /// Whether mounts made later on one side appear on the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_propagation: Option<MountPropagation>,
}

/// Whether a mount is read-only together with what is mounted below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RecursiveReadOnly {
    /// No.
    Disabled,
    /// As far as the kernel can.
    IfPossible,
    /// Yes.
    Enabled,
}

/// Whether mounts made later on one side appear on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MountPropagation {
    /// No.
    None,
    /// Those of the node appear in the container.
    HostToContainer,
    /// Both ways. For privileged containers only.
    Bidirectional,
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

impl Container {
    /// Number of a port that is written as a number or as the name of one of the container's ports.
    #[must_use]
    pub fn port_number(&self, port: &str) -> Option<u16> {
        let named = || self.ports.iter().find(|own| own.name.as_deref() == Some(port));
        port.parse().ok().or_else(|| named().map(|own| own.container_port))
    }

    /// True for an init container that stays.
    #[must_use]
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy.is_some()
    }
}
