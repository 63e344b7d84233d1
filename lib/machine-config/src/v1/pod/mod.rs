//! The `kind: Pod` document: a strict subset of upstream's `v1/Pod`, with upstream's field names and meaning.
//!
//! What upstream has and Ingot does not support yet is listed next to each type as `x-ingot-unsupported`, so that the
//! loader can tell "not supported yet" from a typing error. Defaults are upstream's.

mod container;
mod identity;

pub use container::{
    Capabilities, Container, EnvVar, PullPolicy, ResourceList, Resources, SecurityContext,
    VolumeMount,
};
pub use identity::PIDS_LIMIT_ANNOTATION;

use super::is_default;
use crate::format;
use crate::quantity::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A pod that the node runs by itself, with no kubelet. A strict subset of the Kubernetes `v1/Pod`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = ["status"]))]
pub struct Pod {
    /// Version of the Kubernetes API the pod is written in.
    pub api_version: PodApiVersion,
    /// Says that this document is a pod.
    pub kind: PodKind,
    /// Name and labels of the pod.
    pub metadata: Metadata,
    /// What the pod runs.
    pub spec: PodSpec,
}

/// Versions of the Kubernetes API that hold pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum PodApiVersion {
    /// The core API.
    #[default]
    #[serde(rename = "v1")]
    V1,
}

/// The kind of a pod document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum PodKind {
    /// A pod.
    #[default]
    Pod,
}

/// Name and labels of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = [
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation",
    "managedFields", "ownerReferences", "resourceVersion", "selfLink",
]))]
pub struct Metadata {
    /// Name of the pod, unique in its namespace.
    #[schemars(with = "format::PodName")]
    pub name: String,
    /// Namespace of the pod: a prefix that keeps names apart.
    #[schemars(with = "format::DnsLabel")]
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Identity of the pod. When not given it is derived from namespace and name, and so stays the same.
    #[schemars(with = "Option<format::PodUid>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Labels, for people and programs that read the list of pods.
    #[schemars(extend("propertyNames" = { "format": "label-name" }), with = "BTreeMap<String, format::LabelValue>")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations. `ingot.dev/pids-limit` is the most processes and threads the pod may have.
    #[schemars(extend("propertyNames" = { "format": "label-name" }))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a pod runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = [
    "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy", "enableServiceLinks",
    "ephemeralContainers", "hostAliases", "hostIPC", "hostPID", "hostUsers", "hostnameOverride", "imagePullSecrets",
    "initContainers", "nodeName", "nodeSelector", "os", "overhead", "preemptionPolicy", "priority", "priorityClassName",
    "readinessGates", "resourceClaims", "resources", "runtimeClassName", "schedulerName", "schedulingGates",
    "securityContext", "serviceAccount", "serviceAccountName", "setHostnameAsFQDN", "shareProcessNamespace",
    "subdomain", "tolerations", "topologySpreadConstraints", "workloadRef",
]))]
pub struct PodSpec {
    /// The containers of the pod. They share its network and its volumes.
    #[schemars(length(min = 1, max = 64))]
    pub containers: Vec<Container>,
    /// Volumes that containers may mount.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// When an ended container is started again. Restarts are delayed ever longer while they keep failing.
    #[schemars(extend("default" = "Always"))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart_policy: RestartPolicy,
    /// Seconds between asking a container to stop and killing it.
    #[schemars(range(min = 0, max = 86_400), extend("default" = 30))]
    #[serde(default = "default_grace", skip_serializing_if = "is_default_grace")]
    pub termination_grace_period_seconds: u32,
    /// Use the node's own network instead of an address on the pod bridge.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub host_network: bool,
    /// Hostname inside the pod. When not given, the name of the pod.
    #[schemars(with = "Option<format::DnsLabel>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// When an ended container is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    #[default]
    Always,
    /// Only after a failure: an exit code other than 0, a signal, or no memory.
    OnFailure,
    /// Not at all.
    Never,
}

/// A volume that containers of the pod may mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = [
    "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "configMap", "csi", "downwardAPI", "ephemeral",
    "fc", "flexVolume", "flocker", "gcePersistentDisk", "gitRepo", "glusterfs", "hostPath", "image", "iscsi", "nfs",
    "persistentVolumeClaim", "photonPersistentDisk", "portworxVolume", "projected", "quobyte", "rbd", "scaleIO",
    "secret", "storageos", "vsphereVolume",
]))]
pub struct Volume {
    /// Name of the volume, for `volumeMounts`.
    #[schemars(with = "format::DnsLabel")]
    pub name: String,
    /// An empty directory that lives as long as the pod.
    pub empty_dir: EmptyDir,
}

/// An empty directory that lives as long as the pod, through restarts of its containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EmptyDir {
    /// Where the bytes are: on the VAR partition, or in memory with `Memory`.
    #[schemars(extend("default" = ""))]
    #[serde(skip_serializing_if = "is_default")]
    pub medium: Medium,
    /// Most bytes it may hold.
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

fn default_namespace() -> String {
    "default".to_owned()
}

/// Upstream's default, in seconds.
const DEFAULT_GRACE_SECONDS: u32 = 30;

fn default_grace() -> u32 {
    DEFAULT_GRACE_SECONDS
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_default_grace(seconds: &u32) -> bool {
    *seconds == DEFAULT_GRACE_SECONDS
}
