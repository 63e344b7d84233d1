//! What plugins are told about a sandbox: the arguments that Kubernetes defined for them, and the capabilities of the CNI
//! conventions. Pure.

use ingot_machine_config::quantity::Quantity;
use serde_json::{Map, Value, json};

use crate::config::{PortMapping, SandboxConfig};
use crate::engine::Subnet;
use crate::network::ports;

/// Bits that a limited sandbox may send or receive at once. The plugin wants a number; the kubelet used to give this one.
const BURST: u64 = u32::MAX as u64;

/// What plugins are told about a sandbox.
#[derive(Clone, Debug, Default)]
pub(in crate::network) struct About {
    /// `CNI_ARGS`.
    pub(super) arguments: String,
    /// What goes to plugins that ask for it.
    pub(super) capabilities: Map<String, Value>,
}

impl About {
    /// `ranges` are the addresses that the kubelet named for pods of this node, if it did.
    pub(in crate::network) fn sandbox(
        key: &str,
        config: &SandboxConfig,
        ranges: &[Subnet],
    ) -> Self {
        // Plugins refuse arguments they do not know unless told not to.
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={key};K8S_POD_UID={}",
            argument(&config.namespace),
            argument(&config.name),
            argument(&config.uid),
        );
        let mut capabilities = Map::new();
        let mappings: Vec<Value> =
            config.ports.iter().filter(|port| port.host_port != 0).map(mapping).collect();
        if !mappings.is_empty() {
            capabilities.insert("portMappings".into(), mappings.into());
        }
        if let Some(limits) = bandwidth(config) {
            capabilities.insert("bandwidth".into(), limits);
        }
        if !ranges.is_empty() {
            let range = |s: &Subnet| json!([{ "subnet": format!("{}/{}", s.address, s.prefix) }]);
            capabilities.insert("ipRanges".into(), ranges.iter().map(range).collect());
        }
        if let Some(dns) = &config.dns {
            let dns = json!({
                "servers": dns.servers, "searches": dns.searches, "options": dns.options,
            });
            capabilities.insert("dns".into(), dns);
        }
        if !config.annotations.is_empty() {
            let annotations = json!(config.annotations);
            capabilities.insert("io.kubernetes.cri.pod-annotations".into(), annotations);
        }
        Self { arguments, capabilities }
    }
}

/// Without what would begin another argument.
fn argument(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ';' | '=') && !c.is_control()).collect()
}

fn mapping(port: &PortMapping) -> Value {
    json!({
        "hostPort": port.host_port,
        "containerPort": port.container_port,
        "protocol": ports::name(port.protocol).to_lowercase(),
        "hostIP": port.host_ip,
    })
}

/// The limits in the annotations of the pod, in bits per second.
fn bandwidth(config: &SandboxConfig) -> Option<Value> {
    let mut limits = Map::new();
    for (way, name) in [("ingress", "ingress-bandwidth"), ("egress", "egress-bandwidth")] {
        let text = config.annotations.get(&format!("kubernetes.io/{name}"));
        // What cannot be read is not a limit, as with every other runtime.
        let Some(rate) = text.and_then(|text| text.parse::<Quantity>().ok()) else { continue };
        limits.insert(format!("{way}Rate"), rate.units().into());
        limits.insert(format!("{way}Burst"), BURST.into());
    }
    (!limits.is_empty()).then(|| limits.into())
}

#[cfg(test)]
mod tests;
