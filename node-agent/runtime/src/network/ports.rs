//! Which port of the node leads to which pod, and that nobody else has it: no other pod, and no program of the node.
//!
//! A port is held by a socket that is bound and never listens. So a program of the node that wants it later is refused by
//! the kernel, instead of never being reached.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::config::{PortMapping, Protocol};

/// Ports of the node that lead to pods, all pods together, at most: they must fit into one netlink message.
const PORTS_MAX: usize = 4096;

/// Why a pod does not get a port of the node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// Another pod has it.
    #[error("port {port}/{protocol} of the node leads to pod {by} already")]
    Taken { port: u16, protocol: &'static str, by: String },
    /// A program of the node has it, or it is not the node's address.
    #[error("take port {port}/{protocol} of the node; a program of the node may have it")]
    Hold {
        port: u16,
        protocol: &'static str,
        #[source]
        source: io::Error,
    },
    /// The address is none.
    #[error("{text:?} is not an IP address to have a port on")]
    Address { text: String },
    /// The port of the pod is missing.
    #[error("port {port}/{protocol} of the node leads to port 0 of the pod")]
    Zero { port: u16, protocol: &'static str },
    /// More than anybody needs.
    #[error("more than {PORTS_MAX} ports of the node lead to pods")]
    TooMany,
}

/// On which addresses of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All of one IP version.
    Any,
    /// One.
    At(IpAddr),
}

/// A port of the node, for one IP version, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) protocol: Protocol,
    pub(super) place: Place,
    pub(super) host_port: u16,
    pub(super) to: IpAddr,
    pub(super) pod_port: u16,
}

impl Port {
    fn clashes(&self, other: &Self) -> bool {
        let same_place = match (self.place, other.place) {
            (Place::At(one), Place::At(other)) => one == other,
            _ => self.to.is_ipv4() == other.to.is_ipv4(),
        };
        self.protocol == other.protocol && self.host_port == other.host_port && same_place
    }
}

/// What one pod has.
struct Claim {
    /// For people.
    name: String,
    ports: Vec<Port>,
    /// By our rules; otherwise somebody else leads them, and they are only kept from others.
    ours: bool,
    /// Keeps others away; empty where nothing could be held (SCTP).
    _held: Vec<OwnedFd>,
}

/// Who has which port.
#[derive(Default)]
pub(super) struct Ports {
    claims: HashMap<String, Claim>,
}

/// Name of a transport, as Kubernetes writes it.
pub(super) fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// What the mappings of a pod with these addresses come to. Mappings without a port of the node are none.
pub(super) fn resolve(
    addresses: &[IpAddr],
    mappings: &[PortMapping],
) -> Result<Vec<Port>, PortError> {
    let mut ports: Vec<Port> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port != 0) {
        let PortMapping { protocol, container_port, host_port, ref host_ip } = *mapping;
        if container_port == 0 {
            return Err(PortError::Zero { port: host_port, protocol: name(protocol) });
        }
        let place: Option<IpAddr> = match host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| PortError::Address { text: text.to_owned() })?),
        };
        for to in addresses {
            let place = match place {
                None => Place::Any,
                Some(host) if host.is_ipv4() != to.is_ipv4() => continue,
                Some(host) if host.is_unspecified() => Place::Any,
                Some(host) => Place::At(host),
            };
            let port = Port { protocol, place, host_port, to: *to, pod_port: container_port };
            // Said twice is said once; a pod may name the same port for two containers, where the first counts.
            if !ports.iter().any(|other| other.clashes(&port)) {
                ports.push(port);
            }
        }
    }
    Ok(ports)
}

impl Ports {
    /// All of all pods that our rules lead.
    pub(super) fn all(&self) -> Vec<Port> {
        let ours = self.claims.values().filter(|claim| claim.ours);
        ours.flat_map(|claim| claim.ports.clone()).collect()
    }

    /// Gives ports to a pod, in place of those it has, which an error may cost it. `ours` says whether our rules lead them.
    pub(super) fn claim(
        &mut self,
        key: &str,
        name: &str,
        ports: &[Port],
        ours: bool,
    ) -> Result<(), PortError> {
        let others = || self.claims.iter().filter(|(other, _)| *other != key);
        for port in ports {
            for (_, claim) in others() {
                if claim.ports.iter().any(|other| other.clashes(port)) {
                    return Err(PortError::Taken {
                        port: port.host_port,
                        protocol: self::name(port.protocol),
                        by: claim.name.clone(),
                    });
                }
            }
        }
        let count: usize = others().map(|(_, claim)| claim.ports.len()).sum();
        if count + ports.len() > PORTS_MAX {
            return Err(PortError::TooMany);
        }
        self.claims.remove(key);
        let mut held = Vec::new();
        for port in ports {
            held.extend(hold(port).map_err(|source| PortError::Hold {
                port: port.host_port,
                protocol: self::name(port.protocol),
                source,
            })?);
        }
        let claim = Claim { name: name.to_owned(), ports: ports.to_vec(), ours, _held: held };
        self.claims.insert(key.to_owned(), claim);
        Ok(())
    }

    /// Notes what a pod has had since before this process began. It keeps it, even where somebody else was quicker to take
    /// the port meanwhile: its connections are open.
    pub(super) fn adopt(&mut self, key: &str, name: &str, ports: Vec<Port>, ours: bool) {
        let held = ports.iter().filter_map(|port| hold(port).ok().flatten()).collect();
        let claim = Claim { name: name.to_owned(), ports, ours, _held: held };
        self.claims.insert(key.to_owned(), claim);
    }

    /// Takes a pod's ports back, and says which our rules led.
    pub(super) fn release(&mut self, key: &str) -> Vec<Port> {
        let claim = self.claims.remove(key).filter(|claim| claim.ours);
        claim.map(|claim| claim.ports).unwrap_or_default()
    }
}

/// A socket on the port; none where that would only load a protocol that nobody else uses.
fn hold(port: &Port) -> io::Result<Option<OwnedFd>> {
    let kind = match port.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
        Protocol::Sctp => return Ok(None),
    };
    let address = match (port.place, port.to) {
        (Place::At(address), _) => address,
        (Place::Any, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (Place::Any, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Without the option to share: it conflicts with everybody who has the port or wants it.
    rustix::net::bind(&socket, &SocketAddr::new(address, port.host_port))?;
    Ok(Some(socket))
}

#[cfg(test)]
mod tests;
