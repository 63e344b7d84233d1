//! What the kernel of a node in a cluster needs: modules that kube-proxy's rules are made of, and forwarding. Each is tried; what is
//! missing shows in what needs it. And which of the node's addresses faces the cluster.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The kernel would ask a program for them that a node does not have.
const MODULES: &[&str] = &[
    "overlay",
    "br_netfilter",
    "nf_tables",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nft_chain_nat",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_numgen",
    "nft_hash",
    "nft_limit",
    "nft_log",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_objref",
    "nfnetlink_acct",
];

/// Parameters below /proc/sys.
const SETTINGS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    // Answers of a pod to another one on the same bridge go back through the service's address.
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
];

/// Loads and sets.
pub(super) fn prepare() {
    for module in MODULES {
        crate::controllers::modules::load_quietly(module);
    }
    for (name, value) in SETTINGS {
        let path = format!("/proc/sys/{name}");
        let same = fs::read_to_string(&path).is_ok_and(|now| now.trim() == *value);
        if !same && let Err(error) = fs::write(&path, value) {
            tracing::warn!(%error, path, "a kernel parameter for the cluster is not set");
        }
    }
}

/// Puts the address first with which the node reaches these servers: the others of the cluster reach it there. Nothing is sent.
pub(super) fn facing_first(addresses: &mut [IpAddr], servers: &[String]) {
    let facing = servers.iter().find_map(|server| facing(server.parse().ok()?));
    if let Some(at) = facing.and_then(|facing| addresses.iter().position(|own| *own == facing)) {
        addresses.get_mut(..=at).into_iter().for_each(|before| before.rotate_right(1));
    }
}

fn facing(server: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr =
        if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(server).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_faces_the_servers_comes_first() {
        let list = |words: [&str; 3]| words.map(|word| word.parse::<IpAddr>().unwrap());
        let mut addresses = list(["192.0.2.1", "192.0.2.2", "127.0.0.1"]);
        facing_first(&mut addresses, &["name.example:6443".into(), "127.0.0.1:6443".into()]);
        assert_eq!(addresses, list(["127.0.0.1", "192.0.2.1", "192.0.2.2"]));
        facing_first(&mut addresses, &["name.example:6443".into()]);
        assert_eq!(addresses[0], IpAddr::from([127, 0, 0, 1]), "names say nothing");
    }
}
