//! The `kind: Pod` document: a strict subset of upstream's `v1/Pod`, with upstream's field names and meaning.
//!
//! What upstream has and Ingot does not support yet is listed next to each type as `x-ingot-unsupported`, so that the
//! loader can tell "not supported yet" from a typing error. Defaults are upstream's.

mod container;
mod env;
mod field;
mod identity;
mod probe;
mod references;
mod security;
mod volume;

pub use container::{
    Container, ContainerPort, MountPropagation, Protocol, PullPolicy, RecursiveReadOnly,
    ResourceList, Resources, SidecarPolicy, TerminationMessagePolicy, VolumeMount,
};
pub use env::{
    EnvFrom, EnvVar, EnvVarSource, FieldRef, KeyRef, ObjectRef, ResourceFieldRef, ResourceName,
};
pub use field::Field;
pub use identity::PIDS_LIMIT_ANNOTATION;
pub use probe::{
    ExecAction, GrpcAction, Hook, HttpGetAction, HttpHeader, Lifecycle, Probe, Scheme, SleepAction,
    TcpSocketAction,
};
pub use references::{DataKind, Reference};
pub use security::{
    AppArmorProfile, Capabilities, FsGroupChangePolicy, PodSecurityContext, ProcMount, ProfileType,
    SeccompProfile, SecurityContext, SupplementalGroupsPolicy, Sysctl,
};
pub use volume::{
    ConfigMapVolume, DownwardFile, DownwardProjection, DownwardVolume, EmptyDir, FileMode,
    HostPath, HostPathType, ImageVolume, KeyToPath, Medium, ObjectProjection, ProjectedVolume,
    Projection, SecretVolume, Volume,
};

use super::is_default;
use crate::format;
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
    "affinity", "automountServiceAccountToken", "enableServiceLinks", "ephemeralContainers", "hostnameOverride", "nodeName",
    "nodeSelector", "os", "overhead", "preemptionPolicy", "readinessGates", "resourceClaims", "resources",
    "runtimeClassName", "schedulerName", "schedulingGates", "serviceAccount", "serviceAccountName", "setHostnameAsFQDN",
    "subdomain", "tolerations", "topologySpreadConstraints", "workloadRef",
]))]
pub struct PodSpec {
    /// Run one after the other, each to its end, before the containers start. Those with `restartPolicy: Always` are
    /// sidecars: they stay.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Container>,
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
    /// Seconds after which the pod has failed, however far it has come.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u32>,
    /// See the processes of the node, and be able to signal them.
    #[schemars(extend("default" = false))]
    #[serde(default, rename = "hostPID", skip_serializing_if = "is_default")]
    pub host_pid: bool,
    /// Share the node's System V and POSIX message queues and shared memory.
    #[schemars(extend("default" = false))]
    #[serde(default, rename = "hostIPC", skip_serializing_if = "is_default")]
    pub host_ipc: bool,
    /// One process tree for all containers of the pod, instead of one for each.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub share_process_namespace: bool,
    /// Use the user ids of the node. With `false` the pod's root is nobody on the node.
    #[schemars(extend("default" = true))]
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub host_users: bool,
    /// As whom and with which rights the containers run, where they do not say otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security_context: PodSecurityContext,
    /// Importance: pods with more are started earlier, and end later when the node stops or runs out of memory.
    #[schemars(range(min = -2_147_483_648, max = 2_000_001_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// A name for a priority: `system-cluster-critical` (2000000000) or `system-node-critical` (2000001000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<PriorityClass>,
    /// Which name servers the pod asks.
    #[schemars(extend("default" = "ClusterFirst"))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns_policy: DnsPolicy,
    /// Name servers of the pod, besides those of its `dnsPolicy`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns_config: DnsConfig,
    /// More lines for `/etc/hosts`.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    /// Secrets of the type `kubernetes.io/dockerconfigjson` with credentials for registries.
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalReference>,
}

impl Default for PodSpec {
    /// What a document that says nothing means; without a container it is none that a config may hold.
    fn default() -> Self {
        Self {
            init_containers: Vec::new(),
            containers: Vec::new(),
            volumes: Vec::new(),
            restart_policy: RestartPolicy::default(),
            termination_grace_period_seconds: DEFAULT_GRACE_SECONDS,
            host_network: false,
            hostname: None,
            active_deadline_seconds: None,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            host_users: true,
            security_context: PodSecurityContext::default(),
            priority: None,
            priority_class_name: None,
            dns_policy: DnsPolicy::default(),
            dns_config: DnsConfig::default(),
            host_aliases: Vec::new(),
            image_pull_secrets: Vec::new(),
        }
    }
}

/// Names of priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PriorityClass {
    /// What a cluster cannot do without.
    #[serde(rename = "system-cluster-critical")]
    SystemClusterCritical,
    /// What a node cannot do without.
    #[serde(rename = "system-node-critical")]
    SystemNodeCritical,
}

impl PriorityClass {
    /// The priority it stands for, as upstream defines it.
    #[must_use]
    pub fn priority(self) -> i32 {
        match self {
            Self::SystemClusterCritical => 2_000_000_000,
            Self::SystemNodeCritical => 2_000_001_000,
        }
    }
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

/// Which name servers the pod asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DnsPolicy {
    /// The node's: there is no cluster here.
    #[default]
    ClusterFirst,
    /// The node's.
    ClusterFirstWithHostNet,
    /// The node's.
    Default,
    /// Only those of `dnsConfig`.
    None,
}

/// Name servers of the pod, besides those of its `dnsPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Addresses of name servers.
    #[schemars(length(max = 3), with = "Vec<format::Ip>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Domains that are tried after short names.
    #[schemars(length(max = 32), with = "Vec<format::Hostname>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Options of the resolver.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<DnsOption>,
}

/// An option of the resolver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsOption {
    /// Name, like `ndots`.
    #[schemars(with = "format::Word")]
    pub name: String,
    /// Value, like `"5"`.
    #[schemars(with = "Option<format::Word>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A line of the pod's `/etc/hosts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostAlias {
    /// The address.
    #[schemars(with = "format::Ip")]
    pub ip: String,
    /// Its names.
    #[schemars(with = "Vec<format::Hostname>")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
}

/// A name of something in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalReference {
    /// The name.
    #[schemars(with = "format::PodName")]
    pub name: String,
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

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_yes(value: &bool) -> bool {
    *value
}
