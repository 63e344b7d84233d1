//! The rules of the pod network: one table `inet ingot`, whose rules never change with the pods. Pods are elements of maps
//! in it, so one more costs the same whether there are two or two hundred, and no packet ever sees half of a change.
//!
//! It decides nothing about who may have a port: see [`super::ports`].

use std::net::IpAddr;

use super::BRIDGE;
use super::nft::{self, Attribute, Batch, Element, Hook, IPV4, IPV6, Meta, NftError, REGISTER};
use super::ports::{Place, Port};
use crate::config::Protocol;
use crate::engine::Subnet;

/// Name of the table. Nobody else writes to it.
const TABLE: &str = "ingot";

/// The chain that both ways to the node's ports lead to.
const HOST_PORTS: &str = "hostports";

/// nft's numbers for the types in maps: addresses, transports and ports.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_TRANSPORT: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_BITS: u32 = 6;

/// `NF_IP_PRI_RAW`, `NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC`.
const RAW: i32 = -300;
const DESTINATION: i32 = -100;
const SOURCE: i32 = 100;

/// `ARPHRD_LOOPBACK`, `RTN_LOCAL`, `IPS_DST_NAT`: in the machine's byte order, as the kernel loads them.
const LOOPBACK_LINK: u16 = 772;
const LOCAL: u32 = 2;
const DESTINATION_CHANGED: u32 = 1 << 5;

/// Length of a link name in a register.
const NAME_LENGTH: usize = 16;

/// Modules that the rules need; the kernel would ask a program for them that a node does not have.
pub(super) const MODULES: &[&str] = &[
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_masq",
    "nft_nat",
    "nf_conntrack_netlink",
];

/// An IP version: all that differs in the rules.
#[derive(Clone, Copy)]
struct Family {
    number: u8,
    /// Bytes of an address.
    length: u32,
    /// Where source and destination are in the header.
    source: u32,
    destination: u32,
    kind: u32,
    /// Ports on all addresses, and on one.
    any: &'static str,
    at: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        number: IPV4,
        length: 4,
        source: 12,
        destination: 16,
        kind: TYPE_IPV4,
        any: "ports4",
        at: "ports4at",
    },
    Family {
        number: IPV6,
        length: 16,
        source: 8,
        destination: 24,
        kind: TYPE_IPV6,
        any: "ports6",
        at: "ports6at",
    },
];

fn family(address: IpAddr) -> Family {
    let [v4, v6] = FAMILIES;
    if address.is_ipv4() { v4 } else { v6 }
}

/// Makes the whole table as it should be, in one step, whatever was there.
pub(super) fn replace(subnets: &[Subnet], ports: &[Port]) -> Result<(), NftError> {
    let mut batch = Batch::new(TABLE);
    // The first makes the second succeed where there is none.
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    for family in FAMILIES {
        maps(&mut batch, family);
    }
    batch.chain(HOST_PORTS);
    for family in FAMILIES {
        host_ports(&mut batch, family);
    }
    guard_loopback(&mut batch);
    for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        batch.hooked_chain(chain, "nat", hook, DESTINATION);
        let local = LOCAL.to_ne_bytes();
        batch.rule(
            chain,
            &[
                nft::destination_type(REGISTER),
                nft::compare(REGISTER, true, &local),
                nft::jump(HOST_PORTS),
            ],
        );
    }
    batch.hooked_chain("postrouting", "nat", Hook::Postrouting, SOURCE);
    loopback_source(&mut batch);
    for subnet in subnets {
        pod_source(&mut batch, *subnet);
    }
    change(&mut batch, ports, Batch::add_elements);
    batch.commit()
}

/// Leads ports of the node to pods; the table is there.
pub(super) fn add(ports: &[Port]) -> Result<(), NftError> {
    let mut batch = Batch::new(TABLE);
    change(&mut batch, ports, Batch::add_elements);
    batch.commit()?;
    forget(ports);
    Ok(())
}

/// Ends that. Connections that are open go on until they end.
pub(super) fn remove(ports: &[Port]) -> Result<(), NftError> {
    let mut batch = Batch::new(TABLE);
    change(&mut batch, ports, Batch::delete_elements);
    batch.commit()?;
    forget(ports);
    Ok(())
}

/// UDP has no connections: who goes on sending would be led to the pod of before for as long as it does.
fn forget(ports: &[Port]) {
    for port in ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        let number = family(port.to).number;
        // It matters little enough not to fail what succeeded.
        let _ = nft::forget(number, transport(port.protocol), port.host_port);
    }
}

fn change(batch: &mut Batch, ports: &[Port], how: impl Fn(&mut Batch, &str, &[Element])) {
    for family in FAMILIES {
        for map in [family.any, family.at] {
            let ports = ports.iter().filter(|port| map_of(port) == map);
            let elements: Vec<Element> = ports.map(element).collect();
            if !elements.is_empty() {
                how(batch, map, &elements);
            }
        }
    }
}

fn map_of(port: &Port) -> &'static str {
    let family = family(port.to);
    match port.place {
        Place::Any => family.any,
        Place::At(_) => family.at,
    }
}

/// Every part begins at four bytes, as in registers.
fn element(port: &Port) -> Element {
    let mut key = Vec::new();
    if let Place::At(address) = port.place {
        key.extend(address_bytes(address));
    }
    key.extend([transport(port.protocol), 0, 0, 0]);
    key.extend(padded(port.host_port));
    let mut value = address_bytes(port.to);
    value.extend(padded(port.pod_port));
    Element { key, value }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// `IPPROTO_*`.
fn transport(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// How many registers of four bytes an address takes.
fn registers(family: Family) -> u32 {
    family.length / 4
}

fn maps(batch: &mut Batch, family: Family) {
    let port = (TYPE_TRANSPORT << TYPE_BITS | TYPE_PORT, 8);
    let at = (family.kind << (2 * TYPE_BITS) | port.0, family.length + port.1);
    let value = (family.kind << TYPE_BITS | TYPE_PORT, family.length + 4);
    batch.map(family.any, port, value);
    batch.map(family.at, at, value);
}

fn is_family(family: Family) -> [Attribute; 2] {
    [nft::meta(Meta::Protocol, REGISTER), nft::compare(REGISTER, true, &[family.number])]
}

/// The port of one address first, then that of all.
fn host_ports(batch: &mut Batch, family: Family) {
    let port = |to| [nft::meta(Meta::Transport, to), nft::transport_header(2, 2, to + 1)];
    let away = |map: &str| {
        [
            nft::lookup(map, REGISTER, REGISTER),
            nft::destination_nat(family.number, REGISTER, REGISTER + registers(family)),
        ]
    };
    let mut rule = is_family(family).to_vec();
    rule.push(nft::network_header(family.destination, family.length, REGISTER));
    rule.extend(port(REGISTER + registers(family)));
    rule.extend(away(family.at));
    batch.rule(HOST_PORTS, &rule);
    let mut rule = is_family(family).to_vec();
    rule.extend(port(REGISTER));
    rule.extend(away(family.any));
    batch.rule(HOST_PORTS, &rule);
}

/// Answers to connections from 127.0.0.1 come back over the bridge, for which the kernel has to be told to route such
/// addresses there. Without this, a neighbour could send to services that listen to the node alone (CVE-2020-8558). What
/// belongs to an answer is addressed to the bridge at this point, so nothing good is dropped.
fn guard_loopback(batch: &mut Batch) {
    let [v4, _] = FAMILIES;
    batch.hooked_chain("guard", "filter", Hook::Prerouting, RAW);
    let mut rule = vec![
        nft::meta(Meta::InType, REGISTER),
        nft::compare(REGISTER, false, &LOOPBACK_LINK.to_ne_bytes()),
    ];
    rule.extend(is_family(v4));
    rule.push(nft::network_header(v4.destination, 1, REGISTER));
    rule.push(nft::compare(REGISTER, true, &[127]));
    rule.push(nft::drop_packet());
    batch.rule("guard", &rule);
}

/// The packet was sent to a port of the node that leads to a pod.
fn was_led() -> [Attribute; 3] {
    [
        nft::connection_status(REGISTER),
        nft::mask(REGISTER, &DESTINATION_CHANGED.to_ne_bytes()),
        nft::compare(REGISTER, false, &[0; 4]),
    ]
}

/// Nobody can answer to 127.0.0.1 of another network namespace.
fn loopback_source(batch: &mut Batch) {
    let [v4, _] = FAMILIES;
    let mut rule = is_family(v4).to_vec();
    rule.push(nft::network_header(v4.source, 1, REGISTER));
    rule.push(nft::compare(REGISTER, true, &[127]));
    rule.extend(was_led());
    rule.push(nft::masquerade());
    batch.rule("postrouting", &rule);
}

/// Outside, a pod has the node's address. On the bridge too, when it reaches another pod (or itself) through a port of the
/// node: that pod's answer would otherwise go over the bridge straight to the asker, who knows nothing of its sender.
fn pod_source(batch: &mut Batch, subnet: Subnet) {
    let family = family(subnet.address);
    let mask = prefix_mask(family, subnet.prefix);
    let network: Vec<u8> =
        address_bytes(subnet.address).iter().zip(&mask).map(|(byte, bits)| byte & bits).collect();
    let mut from_pod = is_family(family).to_vec();
    from_pod.push(nft::network_header(family.source, family.length, REGISTER));
    from_pod.push(nft::mask(REGISTER, &mask));
    from_pod.push(nft::compare(REGISTER, true, &network));
    from_pod.push(nft::meta(Meta::OutName, REGISTER));
    let mut bridge = [0; NAME_LENGTH];
    bridge.iter_mut().zip(BRIDGE.bytes()).for_each(|(place, byte)| *place = byte);

    let mut rule = from_pod.clone();
    rule.push(nft::compare(REGISTER, false, &bridge));
    rule.push(nft::masquerade());
    batch.rule("postrouting", &rule);

    let mut rule = from_pod;
    rule.push(nft::compare(REGISTER, true, &bridge));
    rule.extend(was_led());
    rule.push(nft::masquerade());
    batch.rule("postrouting", &rule);
}

fn prefix_mask(family: Family, prefix: u8) -> Vec<u8> {
    (0..family.length)
        .map(|byte| {
            let ones = u32::from(prefix).saturating_sub(byte * 8).min(8);
            0xff_u8.checked_shl(8 - ones).unwrap_or(0)
        })
        .collect()
}

#[cfg(test)]
mod tests;
