//! RPCs about the runtime as a whole.

use std::collections::HashMap;

use ingot_runtime::Subnet;
use tonic::Status;

use crate::check::Invalid;
use crate::server::Parts;
use crate::{convert, status as statuses, v1};

/// Name of the runtime, as nodes show it: `ingot://<version>`.
const NAME: &str = "ingot";

/// Version of the API of the CRI that is spoken.
const API: &str = "v1";

/// Version of the kubelet's part of the protocol; it has had no other for years.
const KUBELET_API: &str = "0.1.0";

pub(super) async fn version(
    parts: &Parts,
    _: v1::VersionRequest,
) -> Result<v1::VersionResponse, Status> {
    Ok(v1::VersionResponse {
        version: KUBELET_API.to_owned(),
        runtime_name: NAME.to_owned(),
        runtime_version: parts.version.clone(),
        runtime_api_version: API.to_owned(),
    })
}

pub(super) async fn status(
    parts: &Parts,
    request: v1::StatusRequest,
) -> Result<v1::StatusResponse, Status> {
    let condition = |kind: &str, ready: Result<(), String>| {
        let (status, message) = (ready.is_ok(), ready.err().unwrap_or_default());
        let reason = if status {
            String::new()
        } else {
            format!("{kind}Not").replace("ReadyNot", "NotReady")
        };
        v1::RuntimeCondition { r#type: kind.to_owned(), status, reason, message }
    };
    let network = parts.sandboxes.network_ready().await;
    let features =
        v1::RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: true };
    let handler =
        |name: &&str| v1::RuntimeHandler { name: (*name).to_owned(), features: Some(features) };
    let mut info = HashMap::new();
    if request.verbose {
        info.insert("config".to_owned(), parts.sandboxes.info().to_string());
    }
    Ok(v1::StatusResponse {
        status: Some(v1::RuntimeStatus {
            // The socket opens when the runtime is ready, so whoever can ask has the answer.
            conditions: vec![condition("RuntimeReady", Ok(())), condition("NetworkReady", network)],
        }),
        info,
        runtime_handlers: convert::HANDLERS.iter().map(handler).collect(),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: false,
        }),
    })
}

pub(super) async fn runtime_config(
    _: &Parts,
    _: v1::RuntimeConfigRequest,
) -> Result<v1::RuntimeConfigResponse, Status> {
    let cgroup_driver = v1::CgroupDriver::Cgroupfs.into();
    Ok(v1::RuntimeConfigResponse { linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver }) })
}

/// The addresses of pods, when the control plane has given the node a range. An empty one says nothing.
pub(super) async fn update_runtime_config(
    parts: &Parts,
    request: v1::UpdateRuntimeConfigRequest,
) -> Result<v1::UpdateRuntimeConfigResponse, Status> {
    let network = request.runtime_config.and_then(|config| config.network_config);
    let ranges = network.map(|network| network.pod_cidr).unwrap_or_default();
    let mut subnets = Vec::new();
    for range in ranges.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        subnets.push(subnet(range)?);
    }
    if !subnets.is_empty() {
        parts.sandboxes.set_pod_ranges(subnets).await.map_err(statuses::call)?;
    }
    Ok(v1::UpdateRuntimeConfigResponse {})
}

/// `address/prefix`.
fn subnet(text: &str) -> Result<Subnet, Invalid> {
    let wrong = || {
        let problem = format!("{text:?} is no range; write for example 10.1.0.0/24");
        Invalid::new("runtime_config.network_config.pod_cidr", problem)
    };
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: std::net::IpAddr = address.parse().map_err(|_| wrong())?;
    let longest = if address.is_ipv4() { 30 } else { 126 };
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if prefix == 0 || prefix > longest {
        return Err(wrong());
    }
    Ok(Subnet { address, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_needs_room_for_the_node_and_a_pod() {
        assert!(subnet("10.1.0.0/24").is_ok());
        assert!(subnet("fd00::/64").is_ok());
        for wrong in ["10.1.0.0", "10.1.0.0/31", "10.1.0.0/0", "x/24", "10.1.0.0/-1", "/"] {
            assert!(subnet(wrong).is_err(), "{wrong}");
        }
    }
}
