//! Rules of section `network`: which links, addresses and routes can work together.

use super::{Finding, duplicates, duplicates_by};
use crate::v1::network::{Destination, Link, Network, PodNetwork, Route};
use ipnet::IpNet;
use std::net::IpAddr;

/// Below this MTU, in bytes, the kernel takes IPv6 off a link (RFC 8200).
const MIN_IPV6_MTU: u32 = 1280;

pub(super) fn check(network: &Network) -> Vec<Finding> {
    let mut findings = Vec::new();
    links(&mut findings, &network.links);
    for (index, route) in network.routes.iter().enumerate() {
        self::route(&mut findings, &format!("network.routes[{index}]"), route, &network.links);
    }
    let routes: Vec<_> = network
        .routes
        .iter()
        .map(|route| {
            format!("{} (IPv{}, metric {})", route.to, family(route), route.metric.unwrap_or(0))
        })
        .collect();
    duplicates_by(&mut findings, &routes, |index| format!("network.routes[{index}]"));
    let servers: Vec<_> = network.dns.servers.iter().map(ToString::to_string).collect();
    duplicates(&mut findings, "network.dns.servers", &servers);
    for (index, server) in network.dns.servers.iter().enumerate() {
        unusable(&mut findings, format!("network.dns.servers[{index}]"), *server, true);
    }
    pod_network(&mut findings, network);
    findings
}

/// How many pods find an address: the network less its own, the bridge's and the broadcast address.
pub(super) fn pod_addresses(pods: &PodNetwork) -> u64 {
    let bits = u32::from(32 - pods.ipv4_subnet.prefix_len());
    (1_u64 << bits).saturating_sub(3)
}

fn links(findings: &mut Vec<Finding>, links: &[Link]) {
    let mut addresses = Vec::new();
    let mut places = Vec::new();
    for (index, link) in links.iter().enumerate() {
        let path = format!("network.links[{index}]");
        match (&link.name, &link.mac) {
            (None, None) => findings.push(Finding::new(
                &path,
                "has neither \"name\" nor \"mac\"",
                "write one of them",
            )),
            (Some(_), Some(_)) => findings.push(Finding::new(
                &path,
                "has both \"name\" and \"mac\"",
                "keep one of them",
            )),
            _ => {}
        }
        if !link.up
            && (link.dhcp4 == Some(true) || link.dhcp6 || link.router_advertisements == Some(true))
        {
            let message = "is kept down, so it cannot ask for addresses";
            findings.push(Finding::new(
                &path,
                message,
                "remove \"up: false\", or what asks for addresses",
            ));
        }
        for (at, address) in link.addresses.iter().enumerate() {
            let at = format!("{path}.addresses[{at}]");
            self::address(findings, &at, address);
            addresses.push(address.addr());
            places.push(at);
        }
        let uses_v6 =
            link.dhcp6 || link.addresses.iter().any(|address| matches!(address, IpNet::V6(_)));
        if let Some(mtu) = link.mtu.filter(|mtu| *mtu < MIN_IPV6_MTU && uses_v6) {
            let message = format!("{mtu} is too small for IPv6");
            findings.push(Finding::new(
                format!("{path}.mtu"),
                message,
                format!("write at least {MIN_IPV6_MTU}"),
            ));
        }
    }
    duplicates_by(findings, &addresses, |index| places.get(index).cloned().unwrap_or_default());
    let with = |field: &'static str| {
        move |(index, text): &(usize, String)| {
            (format!("network.links[{index}].{field}"), text.clone())
        }
    };
    let names =
        links.iter().enumerate().filter_map(|(index, link)| Some((index, link.name.clone()?)));
    let macs =
        links.iter().enumerate().filter_map(|(index, link)| Some((index, link.mac?.to_string())));
    for listed in [
        names.collect::<Vec<_>>().iter().map(with("name")).collect::<Vec<_>>(),
        macs.collect::<Vec<_>>().iter().map(with("mac")).collect(),
    ] {
        let (paths, texts): (Vec<_>, Vec<_>) = listed.into_iter().unzip();
        duplicates_by(findings, &texts, |index| paths.get(index).cloned().unwrap_or_default());
    }
}

fn address(findings: &mut Vec<Finding>, path: &str, net: &IpNet) {
    if unusable(findings, path.to_owned(), net.addr(), false) {
        return;
    }
    // Networks of one or two addresses (RFC 3021) have neither a network nor a broadcast address.
    let IpNet::V4(v4) = net else { return };
    if v4.prefix_len() >= 31 {
        return;
    }
    let what = if v4.addr() == v4.network() {
        "the network itself"
    } else if v4.addr() == v4.broadcast() {
        "the broadcast address of its network"
    } else {
        return;
    };
    let example = v4.hosts().next().unwrap_or(v4.addr());
    let hint = format!("write an address inside, like \"{example}/{}\"", v4.prefix_len());
    findings.push(Finding::new(path, format!("\"{net}\" is {what}"), hint));
}

/// Addresses that no host can have; loopback only where a name server may be.
fn unusable(
    findings: &mut Vec<Finding>,
    path: String,
    address: IpAddr,
    loopback_is_fine: bool,
) -> bool {
    let what = if address.is_unspecified() {
        "stands for no address"
    } else if address.is_multicast() {
        "is a multicast address"
    } else if matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
        "is the broadcast address"
    } else if address.is_loopback() && !loopback_is_fine {
        "is a loopback address, which every node has"
    } else {
        return false;
    };
    findings.push(Finding::new(
        path,
        format!("\"{address}\" {what}"),
        "write an address of one host",
    ));
    true
}

/// 4 or 6: the family of a route.
fn family(route: &Route) -> u8 {
    let v6 = match (route.to, route.via) {
        (Destination::Network(net), _) => matches!(net, IpNet::V6(_)),
        (Destination::Default, via) => matches!(via, Some(IpAddr::V6(_))),
    };
    if v6 { 6 } else { 4 }
}

fn route(findings: &mut Vec<Finding>, path: &str, route: &Route, links: &[Link]) {
    if route.via.is_none() && route.dev.is_none() {
        let hint = "write the address of the next router to \"via\"";
        findings.push(Finding::new(path, "has neither \"via\" nor \"dev\"", hint));
    }
    if let Some(dev) = &route.dev {
        let link = links.iter().find(|link| link.name.as_ref() == Some(dev));
        let at = format!("{path}.dev");
        let by_mac = links.iter().any(|link| link.mac.is_some());
        match link {
            Some(link) if !link.up => {
                let message = format!("the link \"{dev}\" is kept down");
                findings.push(Finding::new(
                    at,
                    message,
                    "use another link, or remove \"up: false\" from it",
                ));
            }
            // A link chosen by its MAC address may turn out to have this name; with no links at all, every one is up.
            None if !links.is_empty() && !by_mac => {
                let message = format!("there is no link \"{dev}\" in network.links");
                findings.push(Finding::new(at, message, "add it there, or leave \"dev\" out"));
            }
            _ => {}
        }
    }
    if let Destination::Network(net) = route.to
        && net != net.trunc()
    {
        let message = format!("\"{net}\" is an address in a network, not the network");
        let hint = format!("write \"{}\"", net.trunc());
        findings.push(Finding::new(format!("{path}.to"), message, hint));
    }
    let Some(via) = route.via else { return };
    let at = format!("{path}.via");
    if let Destination::Network(net) = route.to
        && net.addr().is_ipv4() != via.is_ipv4()
    {
        let message = format!("\"{via}\" and \"{net}\" are not of the same kind (IPv4 and IPv6)");
        findings.push(Finding::new(at, message, "write a router of the same kind"));
        return;
    }
    if unusable(findings, at.clone(), via, false) {
        return;
    }
    if let IpAddr::V6(v6) = via
        && v6.is_unicast_link_local()
    {
        if route.dev.is_none() {
            let message = format!("\"{via}\" exists on every link");
            findings.push(Finding::new(at, message, "name the link in \"dev\""));
        }
        return;
    }
    if !reachable(via, route, links) {
        let message = format!("no address of the node is in a network with \"{via}\"");
        let hint =
            "write a router from the network of one of the addresses, or add such an address";
        findings.push(Finding::new(at, message, hint));
    }
}

/// Whether some link can reach a router. A link that asks for its addresses may: nobody knows them yet.
fn reachable(via: IpAddr, route: &Route, links: &[Link]) -> bool {
    let mut candidates = links.iter().filter(|link| {
        link.up && (route.dev.is_none() || link.name.is_none() || link.name == route.dev)
    });
    links.is_empty()
        || candidates.any(|link| {
            let dynamic = match via {
                IpAddr::V4(_) => link.wants_dhcp4(),
                IpAddr::V6(_) => link.dhcp6 || link.wants_router_advertisements(),
            };
            dynamic || link.addresses.iter().any(|net| net.contains(&via))
        })
}

fn pod_network(findings: &mut Vec<Finding>, network: &Network) {
    let pods = &network.pods;
    let subnets = [
        Some(("network.pods.ipv4Subnet", IpNet::V4(pods.ipv4_subnet), 8, 30)),
        pods.ipv6_subnet.map(|net| ("network.pods.ipv6Subnet", IpNet::V6(net), 16, 126)),
    ];
    for (path, subnet, shortest, longest) in subnets.into_iter().flatten() {
        let prefix = subnet.prefix_len();
        if prefix < shortest || prefix > longest {
            let message = format!(
                "a prefix length of {prefix} is outside of the range {shortest} to {longest}"
            );
            findings.push(Finding::new(
                path,
                message,
                format!("write like \"{}/{}\"", subnet.addr(), prefix.clamp(shortest, longest)),
            ));
            continue;
        }
        if subnet.trunc() != subnet {
            let message = format!("\"{subnet}\" is an address in a network, not the network");
            findings.push(Finding::new(path, message, format!("write \"{}\"", subnet.trunc())));
        }
        let address = subnet.network();
        if address.is_multicast() || address.is_loopback() || address.is_unspecified() {
            findings.push(Finding::new(
                path,
                format!("\"{subnet}\" cannot be used for pods"),
                "write a private network",
            ));
        }
        overlaps(findings, path, &subnet, network);
    }
}

/// Everything else that lies in the network of the pods and could then not be reached.
fn overlaps(findings: &mut Vec<Finding>, path: &str, subnet: &IpNet, network: &Network) {
    let inside = |net: &IpNet| {
        net.prefix_len() > 0 && (net.contains(&subnet.network()) || subnet.contains(&net.network()))
    };
    let addresses = network.links.iter().flat_map(|link| &link.addresses).filter(|net| inside(net));
    let routes = network.routes.iter().filter_map(|route| match route.to {
        Destination::Network(net) if subnet.contains(&net) => Some(net.to_string()),
        _ => None,
    });
    let servers = network.dns.servers.iter().filter(|server| subnet.contains(*server));
    let found = addresses
        .map(|net| format!("the address {net}"))
        .chain(routes.map(|net| format!("the route to {net}")))
        .chain(servers.map(|server| format!("the name server {server}")))
        .next();
    if let Some(other) = found {
        let message = format!("\"{subnet}\", for pods, overlaps {other}");
        findings.push(Finding::new(
            path,
            message,
            "give pods a network that is not used elsewhere",
        ));
    }
}
