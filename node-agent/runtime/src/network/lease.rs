//! Which address a pod gets. Pure.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::engine::Subnet;

/// Addresses looked at in a subnet at most: more pods than that do not fit on a node.
const LOOK_MAX: u128 = 65_536;

/// The node's own address in a subnet: the first.
pub(super) fn gateway(subnet: Subnet) -> Option<IpAddr> {
    nth(subnet, 1)
}

/// An address that nobody has, looking after the last one given: who still thinks of the former holder of an address
/// shall not find somebody else there at once. Not the network's own, the node's or the broadcast address.
pub(super) fn next_free(
    subnet: Subnet,
    taken: &HashSet<IpAddr>,
    last: Option<IpAddr>,
) -> Option<IpAddr> {
    let after = last.filter(|last| contains(subnet, *last)).and_then(|last| position(subnet, last));
    let after = after.map_or(2, |last| last + 1).max(2);
    let free = |n: u128| nth(subnet, n).filter(|address| !taken.contains(address));
    (after..LOOK_MAX)
        .take_while(|n| nth(subnet, *n).is_some())
        .find_map(free)
        .or_else(|| (2..after).find_map(free))
}

/// Whether an address is in a subnet.
pub(super) fn contains(subnet: Subnet, address: IpAddr) -> bool {
    let (network, other) = (bits(subnet.address), bits(address));
    let Some(host_bits) = width(subnet.address).checked_sub(subnet.prefix.into()) else {
        return false;
    };
    subnet.address.is_ipv4() == address.is_ipv4()
        && network.checked_shr(host_bits) == other.checked_shr(host_bits)
}

/// A link address that follows from the pod's address, so that what others remember of it stays right when a pod is made
/// anew. Locally administered.
pub(super) fn mac(addresses: &[IpAddr]) -> [u8; 6] {
    let low = addresses.first().map_or(0, |address| bits(*address));
    let [.., a, b, c, d] = low.to_be_bytes();
    [0x0a, 0x58, a, b, c, d]
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Which address of its subnet it is.
fn position(subnet: Subnet, address: IpAddr) -> Option<u128> {
    let host_bits = width(subnet.address).checked_sub(subnet.prefix.into())?;
    let size = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
    Some(bits(address) & (size - 1))
}

/// The n-th address of a subnet, `None` when it has no such host address.
fn nth(subnet: Subnet, n: u128) -> Option<IpAddr> {
    let (width, base) = (width(subnet.address), bits(subnet.address));
    let host_bits = width.checked_sub(subnet.prefix.into())?;
    let size = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
    // IPv4 keeps its last address for broadcast.
    let last = if width == 32 { size.checked_sub(2)? } else { size - 1 };
    if n > last {
        return None;
    }
    let network = base & !(size - 1);
    Some(match subnet.address {
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(network + n).ok()?).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(network + n).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(address: &str, prefix: u8) -> Subnet {
        Subnet { address: address.parse().unwrap(), prefix }
    }

    #[test]
    fn the_first_address_is_the_nodes_and_pods_follow() {
        let v4 = subnet("10.244.0.0", 24);
        assert_eq!(gateway(v4), Some("10.244.0.1".parse().unwrap()));
        assert_eq!(next_free(v4, &HashSet::new(), None), Some("10.244.0.2".parse().unwrap()));
        let taken = addresses(&["10.244.0.2", "10.244.0.4"]);
        assert_eq!(next_free(v4, &taken, None), Some("10.244.0.3".parse().unwrap()));
        let v6 = subnet("fd00:10::", 64);
        assert_eq!(next_free(v6, &HashSet::new(), None), Some("fd00:10::2".parse().unwrap()));
    }

    fn addresses(texts: &[&str]) -> HashSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_given_back_is_the_last_to_be_given_again() {
        let v4 = subnet("10.244.0.0", 29);
        let last = "10.244.0.3".parse().ok();
        assert_eq!(next_free(v4, &HashSet::new(), last), Some("10.244.0.4".parse().unwrap()));
        let end = "10.244.0.6".parse().ok();
        assert_eq!(next_free(v4, &HashSet::new(), end), Some("10.244.0.2".parse().unwrap()));
        let elsewhere = "10.1.0.9".parse().ok();
        assert_eq!(next_free(v4, &HashSet::new(), elsewhere), Some("10.244.0.2".parse().unwrap()));
    }

    #[test]
    fn a_full_subnet_has_no_address_and_never_the_broadcast_one() {
        let small = subnet("192.168.1.8", 29);
        let (mut taken, mut last) = (HashSet::new(), None);
        while let Some(address) = next_free(small, &taken, last) {
            taken.insert(address);
            last = Some(address);
        }
        let highest: IpAddr = "192.168.1.14".parse().unwrap();
        assert_eq!((taken.len(), taken.iter().max()), (5, Some(&highest)));
        assert_eq!(next_free(subnet("10.0.0.1", 32), &HashSet::new(), None), None);
        assert_eq!(next_free(subnet("10.0.0.0", 31), &HashSet::new(), None), None);
    }

    #[test]
    fn an_address_belongs_to_its_own_subnet_only() {
        let v4 = subnet("10.244.0.0", 24);
        assert!(contains(v4, "10.244.0.255".parse().unwrap()));
        assert!(!contains(v4, "10.244.1.0".parse().unwrap()));
        assert!(!contains(v4, "::ffff:10.244.0.1".parse().unwrap()));
        assert!(contains(subnet("fd00::", 64), "fd00::ffff".parse().unwrap()));
        assert!(!contains(subnet("fd00::", 64), "fd00:0:0:1::".parse().unwrap()));
    }
}
