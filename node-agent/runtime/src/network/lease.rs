//! Which address a pod gets. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::engine::Subnet;

/// Addresses looked at in a subnet at most: more pods than that do not fit on a node.
const LOOK_MAX: u128 = 65_536;

/// The node's own address in a subnet: the first.
pub(super) fn gateway(subnet: Subnet) -> Option<IpAddr> {
    nth(subnet, 1)
}

/// The lowest address that nobody has; not the network's own, the node's or the broadcast address.
pub(super) fn first_free(subnet: Subnet, taken: &[IpAddr]) -> Option<IpAddr> {
    (2..LOOK_MAX).map_while(|n| nth(subnet, n)).find(|address| !taken.contains(address))
}

/// The n-th address of a subnet, `None` when it has no such host address.
fn nth(subnet: Subnet, n: u128) -> Option<IpAddr> {
    let (bits, base): (u32, u128) = match subnet.address {
        IpAddr::V4(v4) => (32, v4.to_bits().into()),
        IpAddr::V6(v6) => (128, v6.to_bits()),
    };
    let host_bits = bits.checked_sub(subnet.prefix.into())?;
    let size = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
    // IPv4 keeps its last address for broadcast.
    let last = if bits == 32 { size.checked_sub(2)? } else { size - 1 };
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
        assert_eq!(first_free(v4, &[]), Some("10.244.0.2".parse().unwrap()));
        let taken = ["10.244.0.2".parse().unwrap(), "10.244.0.4".parse().unwrap()];
        assert_eq!(first_free(v4, &taken), Some("10.244.0.3".parse().unwrap()));
        let v6 = subnet("fd00:10::", 64);
        assert_eq!(first_free(v6, &[]), Some("fd00:10::2".parse().unwrap()));
    }

    #[test]
    fn a_full_subnet_has_no_address_and_never_the_broadcast_one() {
        let small = subnet("192.168.1.8", 29);
        let mut taken = Vec::new();
        while let Some(address) = first_free(small, &taken) {
            taken.push(address);
        }
        let last: IpAddr = "192.168.1.14".parse().unwrap();
        assert_eq!((taken.len(), taken.last()), (5, Some(&last)));
        assert_eq!(first_free(subnet("10.0.0.1", 32), &[]), None);
        assert_eq!(first_free(subnet("10.0.0.0", 31), &[]), None);
    }
}
