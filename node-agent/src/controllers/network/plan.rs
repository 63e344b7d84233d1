//! From config, leases and the kernel's picture to what is to be changed. Pure.

use super::dhcp::{ClientSpec, Leases, Situation, Version, v4};
use super::netlink::{Address, Kernel, Link, Origin, Route};
use ingot_machine_config::IpNet;
use ingot_machine_config::v1::network::{Destination, Link as LinkConfig, Network};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metric of routes from DHCP; routes of the config without a metric come first.
const DHCP_METRIC: u32 = 1024;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bring a link up or down.
    SetUp(u32, bool),
    /// Set the largest packet of a link.
    SetMtu(u32, u32),
    /// Let the kernel take router advertisements on a link, or not.
    AcceptAdvertisements(String, bool),
    /// Remove an address.
    RemoveAddress(Address),
    /// Add an address.
    AddAddress(Address),
    /// Remove a route.
    RemoveRoute(Route),
    /// Add a route.
    AddRoute(Route),
    /// Let exactly these DHCP clients run.
    Clients(Vec<(ClientSpec, Situation)>),
}

/// What was observed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Have {
    pub(crate) kernel: Kernel,
    pub(crate) leases: Leases,
    /// Whether the clients that run are the ones `plan` asks for.
    pub(crate) clients_fit: bool,
    /// Links that take router advertisements.
    pub(crate) advertised: BTreeSet<String>,
    /// Links whose lease may be known to a former agent only: what it set there stays until a server has answered.
    /// Without its address the node would break the connections of its pods at each restart of the agent.
    pub(crate) inherited: BTreeSet<(String, Version)>,
}

/// What applies to a link that the config does not name.
fn default_link(any_named: bool) -> Option<LinkConfig> {
    // A config that names links has said which ones it wants.
    (!any_named).then(|| LinkConfig { up: true, ..LinkConfig::default() })
}

/// The config of a link.
pub(crate) fn config_of(network: &Network, link: &Link) -> Option<LinkConfig> {
    if !link.physical {
        return None;
    }
    let named = network.links.iter().find(|config| {
        config.name.as_deref() == Some(&link.name)
            || config.mac.as_ref().is_some_and(|mac| mac.0.as_slice() == link.mac.as_slice())
    });
    named.cloned().or_else(|| default_link(!network.links.is_empty()))
}

/// DHCP clients that should run.
pub(crate) fn clients(network: &Network, kernel: &Kernel) -> Vec<(ClientSpec, Situation)> {
    let mut clients = Vec::new();
    for link in &kernel.links {
        let Some(config) = config_of(network, link) else { continue };
        let Ok(mac) = <[u8; 6]>::try_from(link.mac.as_slice()) else { continue };
        let carrier = link.up && link.carrier;
        let situation = Situation { carrier, hostname: network.hostname.clone() };
        for version in wanted_versions(&config) {
            let spec = ClientSpec { link: link.name.clone(), mac, version };
            clients.push((spec, situation.clone()));
        }
    }
    clients
}

/// Versions of IP for which a link asks a DHCP server.
fn wanted_versions(config: &LinkConfig) -> impl Iterator<Item = Version> + use<> {
    let v4 = config.wants_dhcp4().then_some(Version::V4);
    v4.into_iter().chain(config.wants_dhcp6().then_some(Version::V6))
}

/// Links whose router advertisements are believed, by index.
pub(crate) fn believed(network: &Network, kernel: &Kernel) -> BTreeSet<u32> {
    let wants = |link: &&Link| {
        config_of(network, link).is_some_and(|config| config.wants_router_advertisements())
    };
    kernel.links.iter().filter(wants).map(|link| link.index).collect()
}

/// What is to be changed. Additions come after removals, routes after addresses.
pub(crate) fn plan(network: &Network, have: &Have) -> Vec<Step> {
    let kernel = &have.kernel;
    let mut steps = Vec::new();
    let mut managed = BTreeSet::new();
    let mut addresses = Vec::new();
    let mut routes = Vec::new();
    for link in &kernel.links {
        if link.name == "lo" && !link.up {
            steps.push(Step::SetUp(link.index, true));
        }
        let Some(config) = config_of(network, link) else { continue };
        managed.insert(link.index);
        let advertised = have.advertised.contains(&link.name);
        if advertised != config.wants_router_advertisements() {
            steps.push(Step::AcceptAdvertisements(link.name.clone(), !advertised));
        }
        let lease = have.leases.v4.get(&link.name).filter(|_| config.wants_dhcp4());
        let mtu = config.mtu.or_else(|| lease.and_then(|lease| lease.mtu).map(u32::from));
        if let Some(mtu) = mtu.filter(|mtu| *mtu != link.mtu) {
            steps.push(Step::SetMtu(link.index, mtu));
        }
        if config.up != link.up {
            steps.push(Step::SetUp(link.index, config.up));
        }
        if config.up {
            addresses.extend(config.addresses.iter().map(|net| address(link.index, net)));
            for version in wanted_versions(&config) {
                let (theirs, ways) = from_dhcp(link, version, have);
                addresses.extend(theirs);
                routes.extend(ways);
            }
        }
    }
    routes
        .extend(network.routes.iter().filter_map(|route| static_route(route, kernel, &addresses)));
    if !have.clients_fit {
        steps.push(Step::Clients(clients(network, kernel)));
    }
    steps.extend(changes(kernel, &managed, &addresses, &routes));
    steps
}

fn changes(
    kernel: &Kernel,
    managed: &BTreeSet<u32>,
    addresses: &[Address],
    routes: &[Route],
) -> Vec<Step> {
    let mut steps = Vec::new();
    let is_up = |index: u32| kernel.links.iter().any(|link| link.index == index && link.up);
    for route in &kernel.routes {
        let others = route.origin == Origin::Cluster;
        if managed.contains(&route.index) && !others && !routes.contains(route) {
            steps.push(Step::RemoveRoute(*route));
        }
    }
    for have in &kernel.addresses {
        let ours = managed.contains(&have.index) && is_ours(have);
        if ours && !addresses.iter().any(|want| same(want, have)) {
            steps.push(Step::RemoveAddress(*have));
        }
    }
    for want in addresses {
        if !kernel.addresses.iter().any(|have| same(want, have)) {
            steps.push(Step::AddAddress(*want));
        }
    }
    // A route needs its link up and its address there; both come about in an earlier round.
    for want in routes {
        if !kernel.routes.contains(want) && is_up(want.index) {
            steps.push(Step::AddRoute(*want));
        }
    }
    steps
}

/// Addresses the agent sets; those of router advertisements and the link-local ones are the kernel's.
fn is_ours(address: &Address) -> bool {
    match address.address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => address.permanent && !v6.is_unicast_link_local(),
    }
}

fn same(want: &Address, have: &Address) -> bool {
    (want.index, want.address, want.prefix) == (have.index, have.address, have.prefix)
}

fn address(index: u32, net: &IpNet) -> Address {
    Address { index, address: net.addr(), prefix: net.prefix_len(), permanent: true }
}

/// Addresses and routes that a link has from a DHCP server, or had from a former agent's.
fn from_dhcp(link: &Link, version: Version, have: &Have) -> (Vec<Address>, Vec<Route>) {
    let index = link.index;
    let leased =
        |address: IpAddr, prefix| vec![Address { index, address, prefix, permanent: true }];
    let v4 = have.leases.v4.get(&link.name);
    let v6 = have.leases.v6.get(&link.name);
    match (version, v4, v6) {
        (Version::V4, Some(lease), _) => {
            (leased(lease.address.into(), lease.prefix), leased_routes(index, lease))
        }
        // What else is on the link is for routers to say.
        (Version::V6, _, Some(lease)) => (leased(lease.address.into(), 128), Vec::new()),
        _ if have.inherited.contains(&(link.name.clone(), version)) => {
            let is_v4 = version == Version::V4;
            let may_be = |address: &&Address| match version {
                Version::V4 => address.address.is_ipv4(),
                Version::V6 => {
                    address.address.is_ipv6() && is_ours(address) && address.prefix == 128
                }
            };
            let addresses = have.kernel.addresses.iter().filter(|it| it.index == index);
            let routes = have.kernel.routes.iter().filter(|it| it.index == index && is_v4);
            let routes = routes.filter(|it| it.origin == Origin::Dhcp);
            (addresses.filter(may_be).copied().collect(), routes.copied().collect())
        }
        _ => (Vec::new(), Vec::new()),
    }
}

fn leased_routes(index: u32, lease: &v4::Lease) -> Vec<Route> {
    let metric = DHCP_METRIC.saturating_add(index);
    let route = |to: Ipv4Addr, prefix: u8, via: Ipv4Addr| Route {
        to: to.into(),
        prefix,
        via: (!via.is_unspecified()).then_some(via.into()),
        index,
        metric,
        origin: Origin::Dhcp,
    };
    if lease.routes.is_empty() {
        let first = lease.routers.first();
        first.map(|via| route(Ipv4Addr::UNSPECIFIED, 0, *via)).into_iter().collect()
    } else {
        lease.routes.iter().map(|(to, prefix, via)| route(*to, *prefix, *via)).collect()
    }
}

/// A route of the config; `None` while no link leads there.
fn static_route(
    route: &ingot_machine_config::v1::network::Route,
    kernel: &Kernel,
    addresses: &[Address],
) -> Option<Route> {
    let index = match (&route.dev, route.via) {
        (Some(dev), _) => kernel.links.iter().find(|link| link.name == *dev)?.index,
        (None, Some(via)) => addresses.iter().find(|address| reaches(address, via))?.index,
        (None, None) => return None,
    };
    let is_v6 = route.via.is_some_and(|via| via.is_ipv6());
    let (to, prefix) = match route.to {
        Destination::Network(net) => (net.network(), net.prefix_len()),
        Destination::Default if is_v6 => (Ipv6Addr::UNSPECIFIED.into(), 0),
        Destination::Default => (Ipv4Addr::UNSPECIFIED.into(), 0),
    };
    // What the kernel makes of no metric.
    let metric = route.metric.unwrap_or(0);
    let metric = if to.is_ipv6() && metric == 0 { 1024 } else { metric };
    Some(Route { to, prefix, via: route.via, index, metric, origin: Origin::Static })
}

fn reaches(address: &Address, via: IpAddr) -> bool {
    IpNet::new(address.address, address.prefix).is_ok_and(|net| net.contains(&via))
}

/// What the links still wait for, in words. `None` when nothing.
pub(crate) fn waiting(network: &Network, have: &Have) -> Option<String> {
    for link in &have.kernel.links {
        let Some(config) = config_of(network, link) else { continue };
        if !config.up {
            continue;
        }
        if !link.carrier {
            return Some(format!("a cable in {}", link.name));
        }
        if config.wants_dhcp4() && !have.leases.v4.contains_key(&link.name) {
            return Some(format!("an address from DHCP on {}", link.name));
        }
        if config.wants_dhcp6() && !have.leases.v6.contains_key(&link.name) {
            return Some(format!("an address from DHCPv6 on {}", link.name));
        }
    }
    let missing = network.links.iter().find(|config| {
        !have.kernel.links.iter().any(|link| config_of(network, link).as_ref() == Some(config))
    });
    missing.map(|config| {
        let mac = config.mac.map(|mac| mac.to_string());
        let name = config.name.clone().or(mac).unwrap_or_default();
        format!("the link {name} to appear")
    })
}

#[cfg(test)]
mod tests;
