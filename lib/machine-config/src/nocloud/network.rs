//! `network-config` of a CIDATA drive, version 1 (what Proxmox writes) and version 2 (netplan's), into section `network`.
//!
//! Ethernet only: bonds, bridges and VLANs are told as problems. Links are chosen by MAC address where there is one, since
//! the names in these files are wishes, not what the kernel calls a link.

use crate::check;
use crate::format;
use crate::problem::{Problem, Problems};
use crate::tree::{Node, Value};
use crate::v1::network::{Destination, Link, MacAddress, Network, Route};
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};

/// What has been read so far.
#[derive(Default)]
pub(super) struct Reader {
    network: Network,
    problems: Problems,
}

impl Reader {
    /// The network, checked as one of a config would be. One that could never work is left out.
    pub(super) fn finish(self) -> (Network, Vec<Problem>) {
        let Self { network, mut problems } = self;
        let found = check::network(&network);
        let sound = found.is_empty();
        found.into_iter().for_each(|problem| problems.push(problem));
        (if sound { network } else { Network::default() }, problems.finish())
    }

    pub(super) fn read(&mut self, root: &Node) {
        let root = root.get("network").unwrap_or(root);
        match root.get("version").and_then(Node::text) {
            Some("1") => self.version1(root),
            Some("2") => self.version2(root),
            _ => self.problem(
                root,
                "has no \"version\" that is 1 or 2",
                "write \"version: 1\" or \"version: 2\" at its top",
            ),
        }
    }

    fn version1(&mut self, root: &Node) {
        for entry in items(root.get("config")) {
            match text(entry, "type") {
                Some("physical") => self.physical(entry),
                Some("nameserver") => {
                    self.name_servers(entry.get("address"));
                    self.search(entry.get("search"));
                }
                Some("route") => self.route1(entry, "destination"),
                Some("loopback") => {}
                Some(other) => self.problem(
                    entry,
                    &format!("\"{other}\" is not supported by Ingot yet"),
                    "use \"physical\"",
                ),
                None => self.problem(entry, "has no \"type\"", "write \"type: physical\""),
            }
        }
    }

    fn physical(&mut self, entry: &Node) {
        let Some(mut link) = self.link(entry, entry.get("mac_address"), text(entry, "name")) else {
            return;
        };
        link.mtu = self.mtu(entry.get("mtu"));
        let subnets = items(entry.get("subnets"));
        // A link with subnets says all about itself; without any it is only brought up.
        link.dhcp4 = Some(false);
        for subnet in subnets {
            match text(subnet, "type").unwrap_or_default() {
                "dhcp" | "dhcp4" => link.dhcp4 = Some(true),
                "dhcp6" | "ipv6_dhcpv6-stateful" => {
                    link.dhcp6 = true;
                    link.router_advertisements = Some(true);
                }
                "ipv6_slaac" | "ipv6_dhcpv6-stateless" => link.router_advertisements = Some(true),
                "static" | "static6" => self.static1(&mut link, subnet),
                "manual" => {}
                other => self.problem(
                    subnet,
                    &format!("a subnet of type \"{other}\" is not known"),
                    "use static, static6, dhcp4, dhcp6 or ipv6_slaac",
                ),
            }
            self.name_servers(subnet.get("dns_nameservers"));
            self.search(subnet.get("dns_search"));
            for route in items(subnet.get("routes")) {
                self.route1(route, "network");
            }
        }
        self.network.links.push(link);
    }

    fn static1(&mut self, link: &mut Link, subnet: &Node) {
        let address = subnet.get("address");
        match address.and_then(Node::text).and_then(|address| net(address, text(subnet, "netmask")))
        {
            Some(net) => link.addresses.push(net),
            None => self.problem(
                address.unwrap_or(subnet),
                "has no valid address with prefix length or netmask",
                "write like \"192.0.2.20/24\"",
            ),
        }
        if let Some(gateway) = subnet.get("gateway") {
            self.default_route(gateway, link);
        }
    }

    fn route1(&mut self, entry: &Node, field: &str) {
        let to = text(entry, field).or_else(|| text(entry, "destination"));
        let to = to.and_then(|to| net(to, text(entry, "netmask")));
        let via = text(entry, "gateway").and_then(|via| via.parse().ok());
        match (to, via) {
            (Some(to), Some(via)) => {
                self.push_route(Destination::Network(to.trunc()), via, None, entry.get("metric"))
            }
            _ => self.problem(
                entry,
                "has no valid destination and gateway",
                "write both as addresses",
            ),
        }
    }

    fn version2(&mut self, root: &Node) {
        for kind in ["bonds", "bridges", "vlans", "wifis", "tunnels", "vrfs", "modems"] {
            if let Some(node) = root.get(kind).filter(|node| !node.is_null()) {
                self.problem(
                    node,
                    &format!("\"{kind}\" are not supported by Ingot yet"),
                    "use \"ethernets\"",
                );
            }
        }
        let Some(Value::Map(links)) = root.get("ethernets").map(|node| &node.value) else { return };
        for (name, entry) in links {
            let chosen = entry.get("match");
            let mac = chosen.and_then(|chosen| chosen.get("macaddress"));
            let name = chosen.and_then(|chosen| text(chosen, "name")).unwrap_or(&name.text);
            let Some(mut link) = self.link(entry, mac, Some(name)) else { continue };
            let dhcp4 = self.flag(entry.get("dhcp4"));
            link.dhcp4 = Some(dhcp4 == Some(true));
            link.dhcp6 = self.flag(entry.get("dhcp6")) == Some(true);
            link.router_advertisements =
                self.flag(entry.get("accept-ra")).or(link.dhcp6.then_some(true));
            link.mtu = self.mtu(entry.get("mtu"));
            for address in items(entry.get("addresses")) {
                match address.text().and_then(|text| text.parse().ok()) {
                    Some(net) => link.addresses.push(net),
                    None => self.problem(
                        address,
                        "is not an address with a prefix length",
                        "write like \"192.0.2.20/24\"",
                    ),
                }
            }
            for gateway in ["gateway4", "gateway6"].into_iter().filter_map(|name| entry.get(name)) {
                self.default_route(gateway, &mut link);
            }
            if let Some(servers) = entry.get("nameservers") {
                self.name_servers(servers.get("addresses"));
                self.search(servers.get("search"));
            }
            for route in items(entry.get("routes")) {
                self.route2(route, &link);
            }
            self.network.links.push(link);
        }
    }

    fn route2(&mut self, entry: &Node, link: &Link) {
        let to = match text(entry, "to") {
            Some("0.0.0.0/0" | "::/0") => Some(Destination::Default),
            Some("default") => Some(Destination::Default),
            // Netplan takes a bare address for a route to one host.
            Some(to) => to
                .parse::<IpNet>()
                .or_else(|_| to.parse::<IpAddr>().map(IpNet::from))
                .ok()
                .map(|net| Destination::Network(net.trunc())),
            None => None,
        };
        match (to, text(entry, "via").and_then(|via| via.parse().ok())) {
            (Some(to), Some(via)) => {
                self.push_route(to, via, link.name.clone(), entry.get("metric"))
            }
            _ => self.problem(entry, "has no valid \"to\" and \"via\"", "write both as addresses"),
        }
    }

    fn default_route(&mut self, gateway: &Node, link: &mut Link) {
        match gateway.text().and_then(|via| via.parse().ok()) {
            // A link-local router needs the name of its link, which is not known where the link goes by its MAC address.
            // Such a router announces itself.
            Some(IpAddr::V6(via)) if via.is_unicast_link_local() && link.name.is_none() => {
                link.router_advertisements = Some(true);
            }
            Some(via) => self.push_route(Destination::Default, via, link.name.clone(), None),
            None => self.problem(gateway, "is not an address", "write the address of the router"),
        }
    }

    fn push_route(
        &mut self,
        to: Destination,
        via: IpAddr,
        dev: Option<String>,
        metric: Option<&Node>,
    ) {
        let metric = metric.and_then(Node::text).and_then(|metric| metric.parse().ok());
        self.network.routes.push(Route { to, via: Some(via), dev, metric });
    }

    /// A link, chosen by its MAC address where there is one.
    fn link(&mut self, entry: &Node, mac: Option<&Node>, name: Option<&str>) -> Option<Link> {
        let off = Link::default();
        if let Some(mac) = mac.filter(|mac| !mac.is_null()) {
            let parsed = mac.text().and_then(|text| text.parse::<MacAddress>().ok());
            if parsed.is_none() {
                self.problem(
                    mac,
                    "is not a MAC address",
                    "write six bytes in hexadecimal, like \"bc:24:11:02:a7:3e\"",
                );
            }
            return parsed.map(|mac| Link { mac: Some(mac), ..off });
        }
        let valid = name.filter(|name| is("link-name", name));
        match valid {
            Some(name) if name.contains(['*', '?', '[']) => {
                self.problem(
                    entry,
                    "patterns of link names are not supported by Ingot yet",
                    "write a MAC address",
                );
                None
            }
            Some(name) => Some(Link { name: Some(name.to_owned()), ..off }),
            None => {
                self.problem(entry, "has neither a MAC address nor a name", "write a MAC address");
                None
            }
        }
    }

    fn mtu(&mut self, node: Option<&Node>) -> Option<u32> {
        let node = node.filter(|node| !node.is_null())?;
        let mtu = node
            .text()
            .and_then(|text| text.parse().ok())
            .filter(|mtu| (68..=65_536).contains(mtu));
        if mtu.is_none() {
            self.problem(node, "is not a packet size", "write a number of bytes from 68 to 65536");
        }
        mtu
    }

    fn flag(&mut self, node: Option<&Node>) -> Option<bool> {
        let node = node.filter(|node| !node.is_null())?;
        match node.text().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "yes" | "on" | "y") => Some(true),
            Some("false" | "no" | "off" | "n") => Some(false),
            _ => {
                self.problem(node, "is neither true nor false", "write true or false");
                None
            }
        }
    }

    fn name_servers(&mut self, node: Option<&Node>) {
        for server in items(node) {
            match server.text().and_then(|text| text.parse().ok()) {
                Some(address) if self.network.dns.servers.contains(&address) => {}
                Some(address) => self.network.dns.servers.push(address),
                None => {
                    self.problem(server, "is not an address", "write the address of a name server")
                }
            }
        }
    }

    fn search(&mut self, node: Option<&Node>) {
        for entry in items(node) {
            for domain in entry.text().unwrap_or_default().split_whitespace() {
                if !is("hostname", domain) {
                    self.problem(entry, "is not a domain", "write like \"example.org\"");
                } else if !self.network.dns.search.iter().any(|known| known == domain) {
                    self.network.dns.search.push(domain.to_owned());
                }
            }
        }
    }

    fn problem(&mut self, node: &Node, message: &str, hint: &str) {
        let (line, column) = (node.place.line, node.place.column);
        let (message, hint) = (message.to_owned(), hint.to_owned());
        self.problems.push(Problem { line, column, message, hint, ..Problem::default() });
    }
}

/// Whether a text is of a format.
fn is(format: &str, text: &str) -> bool {
    format::find(format).is_some_and(|format| (format.accepts)(text))
}

/// The entries of a list; a single scalar counts as a list of one, as these tools allow in places.
fn items(node: Option<&Node>) -> &[Node] {
    match node {
        Some(node) if node.is_null() => &[],
        Some(node) => match &node.value {
            Value::List(items) => items,
            Value::Scalar { .. } => std::slice::from_ref(node),
            Value::Map(_) => &[],
        },
        None => &[],
    }
}

fn text<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.get(name).filter(|node| !node.is_null()).and_then(Node::text)
}

/// An address with its prefix length, which may stand apart as a netmask.
fn net(address: &str, netmask: Option<&str>) -> Option<IpNet> {
    if let Ok(net) = address.parse() {
        return Some(net);
    }
    let address: IpAddr = address.parse().ok()?;
    let netmask = netmask?;
    if let Ok(prefix) = netmask.parse::<u8>() {
        return IpNet::new(address, prefix).ok();
    }
    match (address, netmask.parse::<Ipv4Addr>()) {
        (IpAddr::V4(address), Ok(mask)) => Ipv4Net::with_netmask(address, mask).ok().map(IpNet::V4),
        _ => None,
    }
}
