//! The nodes of a cluster as its API server has them, and what follows from that for this one: routes to the pods of the others, and
//! whether a kubelet gets the serving certificate that it asks for. Pure.

use crate::controllers::network::netlink::{Kernel, Origin, Route};
use ingot_machine_config::IpNet;
use ingot_pki::CertificateRequest;
use serde_json::Value;
use std::net::IpAddr;

/// Says on a node that its agent took it out of service when the machine ended, so that the next one puts it back.
pub(crate) const CORDONED: &str = "ingot.local/cordoned-at-shutdown";
/// Of the routes: the one that the kernel gives to IPv6, for both.
const METRIC: u32 = 1024;
/// User of a node's kubelet, before the node's name.
const USER: &str = "system:node:";
/// Group of all kubelets.
const GROUP: &str = "system:nodes";

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Where its pods get their addresses from.
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// Where others reach it.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether it is ready, in words.
    pub(crate) ready: Option<(bool, String)>,
    /// It takes new pods.
    pub(crate) schedulable: bool,
    /// It takes none because its agent said so at the end of the machine.
    pub(crate) cordoned: bool,
}

impl Node {
    /// Whether it could take pods now.
    pub(crate) fn takes_pods(&self) -> bool {
        self.schedulable && self.ready.as_ref().is_some_and(|(ready, _)| *ready)
    }
}

/// Reads a list of nodes.
pub(crate) fn read(list: &Value) -> Vec<Node> {
    list["items"].as_array().into_iter().flatten().map(one).collect()
}

fn one(node: &Value) -> Node {
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let cidrs = all(&node["spec"]["podCIDRs"]);
    let conditions = all(&node["status"]["conditions"]);
    let ready = conditions.iter().find(|one| one["type"] == "Ready");
    let addresses = all(&node["status"]["addresses"]);
    let internal = addresses.iter().filter(|address| address["type"] == "InternalIP");
    Node {
        name: node["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        pod_cidrs: cidrs.iter().filter_map(|cidr| cidr.as_str()?.parse().ok()).collect(),
        addresses: internal
            .filter_map(|address| address["address"].as_str()?.parse().ok())
            .collect(),
        ready: ready.map(|ready| {
            let message = ready["message"].as_str().unwrap_or_default().to_owned();
            (ready["status"] == "True", message)
        }),
        schedulable: !node["spec"]["unschedulable"].as_bool().unwrap_or(false),
        cordoned: !node["metadata"]["annotations"][CORDONED].is_null(),
    }
}

/// Routes to the pods of other nodes, and the names of nodes that are behind a router, which would have to know them.
pub(crate) fn routes(nodes: &[Node], own: &str, kernel: &Kernel) -> (Vec<Route>, Vec<String>) {
    let (mut routes, mut far) = (Vec::new(), Vec::new());
    for node in nodes.iter().filter(|node| node.name != own) {
        for net in &node.pod_cidrs {
            let same_version = |address: &&IpAddr| address.is_ipv6() == net.addr().is_ipv6();
            let Some(via) = node.addresses.iter().find(same_version) else { continue };
            match link_to(*via, kernel) {
                Some(index) => routes.push(Route {
                    to: net.network(),
                    prefix: net.prefix_len(),
                    via: Some(*via),
                    index,
                    metric: METRIC,
                    origin: Origin::Cluster,
                }),
                None => far.push(node.name.clone()),
            }
        }
    }
    far.dedup();
    (routes, far)
}

/// The card in whose network an address is.
fn link_to(address: IpAddr, kernel: &Kernel) -> Option<u32> {
    let is_card = |index: u32| kernel.links.iter().any(|link| link.index == index && link.physical);
    let near = kernel.addresses.iter().filter(|own| is_card(own.index)).find(|own| {
        let net = IpNet::new(own.address, own.prefix);
        own.address != address && net.is_ok_and(|net| net.contains(&address))
    });
    near.map(|own| own.index)
}

/// Whether a kubelet may have the serving certificate it asks for, or why not: it asks for itself, and no address is another node's.
pub(crate) fn judge(
    request: &CertificateRequest,
    user: &str,
    groups: &[&str],
    nodes: &[Node],
) -> Result<(), String> {
    let name = user.strip_prefix(USER).filter(|_| groups.contains(&GROUP));
    let name = name.ok_or_else(|| format!("\"{user}\" is no node"))?;
    if request.common_name != user || request.organizations != [GROUP] {
        return Err(format!("it is for \"{}\", not for \"{user}\"", request.common_name));
    }
    let node = nodes.iter().find(|node| node.name == name);
    let node = node.ok_or_else(|| format!("there is no node \"{name}\""))?;
    if request.others || (request.names.is_empty() && request.addresses.is_empty()) {
        return Err("it has no names, or such of a kind that no node has".to_owned());
    }
    if let Some(other) = request.names.iter().find(|other| *other != name) {
        return Err(format!("\"{other}\" is not its name"));
    }
    for address in &request.addresses {
        let others = nodes.iter().filter(|other| other.name != name);
        let taken = others.clone().find(|other| other.addresses.contains(address));
        if let Some(taken) = taken {
            return Err(format!("{address} is the address of node \"{}\"", taken.name));
        }
        if !node.addresses.contains(address) {
            return Err(format!("{address} is not its address"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::network::netlink::{Address, Link};
    use serde_json::json;

    fn nodes() -> Vec<Node> {
        let node = |name: &str, cidr: &str, address: &str| {
            json!({
                "metadata": {"name": name},
                "spec": {"podCIDRs": [cidr]},
                "status": {
                    "addresses": [
                        {"type": "InternalIP", "address": address},
                        {"type": "Hostname", "address": name},
                    ],
                    "conditions": [{"type": "Ready", "status": "True", "message": "fine"}],
                },
            })
        };
        let mut far = node("far", "10.244.2.0/24", "192.0.2.1");
        far["spec"]["unschedulable"] = json!(true);
        far["metadata"]["annotations"] = json!({CORDONED: "x"});
        read(&json!({"items": [
            node("one", "10.244.0.0/24", "10.0.2.15"),
            node("two", "10.244.1.0/24", "10.0.2.16"),
            far,
        ]}))
    }

    #[test]
    fn nodes_are_read_as_the_api_server_has_them() {
        let nodes = nodes();
        assert_eq!(nodes[1].name, "two");
        assert_eq!(nodes[1].addresses, ["10.0.2.16".parse::<IpAddr>().unwrap()]);
        assert_eq!(nodes[1].ready, Some((true, "fine".to_owned())));
        assert!(nodes[1].takes_pods() && !nodes[1].cordoned);
        assert!(!nodes[2].takes_pods() && nodes[2].cordoned);
        assert_eq!(read(&json!({"items": [{}]})).len(), 1, "a node that is only just there");
    }

    #[test]
    fn routes_lead_to_the_pods_of_neighbours_only() {
        let kernel = Kernel {
            links: vec![
                Link { index: 2, physical: true, ..Link::default() },
                Link { index: 3, physical: false, ..Link::default() },
            ],
            addresses: vec![
                Address { index: 3, address: [10, 0, 2, 1].into(), prefix: 8, permanent: true },
                Address { index: 2, address: [10, 0, 2, 15].into(), prefix: 24, permanent: true },
            ],
            routes: Vec::new(),
        };
        let (routes, far) = routes(&nodes(), "one", &kernel);
        let [route] = routes.as_slice() else { panic!("{routes:?}") };
        assert_eq!((route.to, route.prefix), ([10, 244, 1, 0].into(), 24));
        assert_eq!((route.via, route.index), (Some([10, 0, 2, 16].into()), 2));
        assert_eq!(far, ["far"]);
    }

    fn request(name: &str, address: &str) -> CertificateRequest {
        CertificateRequest {
            common_name: "system:node:two".into(),
            organizations: vec!["system:nodes".into()],
            names: vec![name.into()],
            addresses: vec![address.parse().unwrap()],
            others: false,
        }
    }

    #[test]
    fn a_node_gets_a_certificate_for_itself_and_for_nobody_else() {
        let (nodes, groups) = (nodes(), ["system:authenticated", "system:nodes"]);
        let good = request("two", "10.0.2.16");
        let ask = |request: &CertificateRequest| judge(request, "system:node:two", &groups, &nodes);
        assert_eq!(ask(&good), Ok(()));
        assert!(ask(&request("one", "10.0.2.16")).unwrap_err().contains("not its name"));
        assert!(ask(&request("two", "10.0.2.15")).unwrap_err().contains("node \"one\""));
        assert!(ask(&request("two", "8.8.8.8")).unwrap_err().contains("not its address"));
        let other = CertificateRequest { common_name: "system:node:one".into(), ..good.clone() };
        assert!(ask(&other).is_err());
        let master =
            CertificateRequest { organizations: vec!["system:masters".into()], ..good.clone() };
        assert!(ask(&master).is_err());
        assert!(ask(&CertificateRequest { others: true, ..good.clone() }).is_err());
        let empty = CertificateRequest { names: Vec::new(), addresses: Vec::new(), ..good.clone() };
        assert!(ask(&empty).is_err());
        assert!(judge(&good, "system:node:two", &["system:authenticated"], &nodes).is_err());
        assert!(judge(&good, "somebody", &groups, &nodes).is_err());
        let stranger = CertificateRequest { common_name: "system:node:new".into(), ..good.clone() };
        assert!(judge(&stranger, "system:node:new", &groups, &nodes).is_err());
    }
}
