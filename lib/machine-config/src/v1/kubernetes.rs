//! Section `kubernetes`: which part of a cluster the node is, and how that cluster is laid out.

use super::is_default;
use crate::format;
use crate::secret::Secret;
use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Kubernetes. A node whose config has this section runs upstream Kubernetes from its own image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// What the node does in the cluster.
    pub role: Role,
    /// Name of the cluster, in kubeconfigs. It counts when the cluster is made, and stays.
    #[schemars(with = "format::DnsLabel", extend("default" = "ingot"))]
    #[serde(default = "cluster_name", skip_serializing_if = "is_cluster_name")]
    pub cluster_name: String,
    /// Where people reach the API server from outside: a name or an address, with a port where it is not 6443. When not
    /// given, the node's first address.
    #[schemars(with = "Option<format::RegistryHostName>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Addresses and names in the cluster.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: ClusterNetwork,
    /// What a cluster has beside its control plane, by name: `coredns`, `kube-proxy`, `metrics-server`, `storage`, and `network-policy`, a
    /// warning that the built-in network keeps no network policies. All are on when they are not named here.
    #[schemars(extend("propertyNames" = { "format": "dns-label" }))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addons: BTreeMap<String, Addon>,
    /// More arguments for etcd.
    #[serde(default, skip_serializing_if = "is_default")]
    pub etcd: Component,
    /// More arguments for kube-apiserver.
    #[serde(default, skip_serializing_if = "is_default")]
    pub api_server: Component,
    /// More arguments for kube-controller-manager.
    #[serde(default, skip_serializing_if = "is_default")]
    pub controller_manager: Component,
    /// More arguments for kube-scheduler.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheduler: Component,
    /// More arguments for the kubelet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kubelet: Component,
    /// For a worker: the token that `ingotctl join-token` makes on a control plane. It says where the cluster is and whom to
    /// trust there, and lets the node join for as long as the token is good. The node needs it once; to move a node to
    /// another cluster, empty its VAR partition first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_token: Option<Secret>,
}

/// What a node does in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs etcd, the API server, the controller manager and the scheduler, and pods as well. The cluster is made by
    /// `ingotctl bootstrap`.
    #[default]
    ControlPlane,
    /// Runs pods only, in the cluster of its `joinToken`.
    Worker,
}

/// Addresses and names in the cluster. What is given here counts when the cluster is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterNetwork {
    /// Networks of all pods; every node gets a part of each. One for IPv4, one for IPv6, or one of each; the first says
    /// which is preferred.
    #[schemars(with = "Vec<format::Cidr>", length(min = 1, max = 2))]
    pub pod_cidrs: Vec<IpNet>,
    /// Networks of services, of the same families in the same order.
    #[schemars(with = "Vec<format::Cidr>", length(min = 1, max = 2))]
    pub service_cidrs: Vec<IpNet>,
    /// Domain of the names of services and pods.
    #[schemars(with = "format::Hostname")]
    pub dns_domain: String,
}

impl Default for ClusterNetwork {
    fn default() -> Self {
        let v4 = |second, prefix| {
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, second, 0, 0), prefix))
        };
        Self {
            pod_cidrs: vec![v4(244, 16)],
            service_cidrs: vec![v4(96, 12)],
            dns_domain: "cluster.local".to_owned(),
        }
    }
}

/// One part of the cluster that runs as pods in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Addon {
    /// Apply it. `false` leaves what is in the cluster alone, and applies nothing.
    pub enabled: bool,
    /// Manifests to apply instead of those in the image: a stream of YAML documents. `${CLUSTER_DNS}`, `${CLUSTER_DOMAIN}`,
    /// `${POD_CIDR}`, `${SERVICE_CIDR}`, `${API_ENDPOINT}` and `${KUBE_IMAGE}` stand for what the cluster has.
    #[schemars(length(min = 1, max = 1_048_576))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

impl Default for Addon {
    fn default() -> Self {
        Self { enabled: true, manifest: None }
    }
}

/// What may be said about one program of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Component {
    /// Arguments by name without the dashes, like `v: "4"`. They win over those that Ingot gives.
    #[schemars(extend("propertyNames" = { "format": "dns-label" }))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_args: BTreeMap<String, String>,
}

fn cluster_name() -> String {
    "ingot".to_owned()
}

fn is_cluster_name(name: &str) -> bool {
    name == "ingot"
}

/// Names of the add-ons that come with the image.
pub const ADDONS: [&str; 5] =
    ["coredns", "kube-proxy", "metrics-server", "network-policy", "storage"];

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            role: Role::default(),
            cluster_name: cluster_name(),
            endpoint: None,
            network: ClusterNetwork::default(),
            addons: BTreeMap::new(),
            etcd: Component::default(),
            api_server: Component::default(),
            controller_manager: Component::default(),
            scheduler: Component::default(),
            kubelet: Component::default(),
            join_token: None,
        }
    }
}

impl Kubernetes {
    /// What the config says about each program, with the program's name and the section's field.
    #[must_use]
    pub fn components(&self) -> [(&'static str, &'static str, &Component); 5] {
        [
            ("etcd", "etcd", &self.etcd),
            ("kube-apiserver", "apiServer", &self.api_server),
            ("kube-controller-manager", "controllerManager", &self.controller_manager),
            ("kube-scheduler", "scheduler", &self.scheduler),
            ("kubelet", "kubelet", &self.kubelet),
        ]
    }
}
