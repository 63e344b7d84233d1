//! The `kind: Machine` document: the node's own settings, a section for each concern.

use super::api::Api;
use super::is_default;
use super::kernel::Kernel;
use super::kubernetes::Kubernetes;
use super::network::Network;
use super::pods::Pods;
use super::registries::Registries;
use super::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The node's own settings. A config holds exactly one such document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// Version of the config language.
    pub api_version: MachineApiVersion,
    /// Says that this document is about the machine.
    pub kind: MachineKind,
    /// Name, links, addresses, routes and name servers of the node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// Where the time comes from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub time: Time,
    /// Kernel parameters and modules.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kernel: Kernel,
    /// The machine API: its port and who may call it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub api: Api,
    /// Defaults for the pods the node runs by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pods: Pods,
    /// Mirrors of registries, and how to speak with them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub registries: Registries,
    /// Kubernetes. Without it the node is no part of a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
}

/// Versions of the config language this release reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum MachineApiVersion {
    /// The only version so far.
    #[default]
    #[serde(rename = "ingot/v1")]
    V1,
}

/// The kind of the machine document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum MachineKind {
    /// The node's own settings.
    #[default]
    Machine,
}
