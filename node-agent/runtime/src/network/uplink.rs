//! How large packets may be on the way out of the node. Pods get the same, or what they send would be cut into pieces, or lost
//! where it must not be.

use std::path::Path;

/// What Ethernet carries, for a node without a way out.
const USUAL: u32 = 1500;

/// What IPv6 asks of every link; a smaller answer is not believed.
const SMALLEST: u32 = 1280;

/// The smallest size of the links that default routes lead over, in bytes.
pub(super) fn mtu() -> u32 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (v4, v6) = (read("/proc/net/route"), read("/proc/net/ipv6_route"));
    let links = default_links_v4(&v4).into_iter().chain(default_links_v6(&v6));
    let of = |link: &str| {
        let path = Path::new("/sys/class/net").join(link).join("mtu");
        std::fs::read_to_string(path).ok()?.trim().parse::<u32>().ok()
    };
    links.filter_map(of).filter(|mtu| *mtu >= SMALLEST).min().unwrap_or(USUAL)
}

/// Links of the default routes in `/proc/net/route`: link, destination, gateway, flags, ..., mask in column 8.
fn default_links_v4(table: &str) -> Vec<&str> {
    let is_default = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.get(1) == Some(&"00000000") && columns.get(7) == Some(&"00000000")
    };
    table.lines().filter(is_default).filter_map(|line| line.split_whitespace().next()).collect()
}

/// Links of the default routes in `/proc/net/ipv6_route`: destination and its prefix length first, the link last. The
/// kernel's own route for refused packets is there too, on the loopback link.
fn default_links_v6(table: &str) -> Vec<&str> {
    let is_default = |line: &&str| {
        let mut columns = line.split_whitespace();
        columns.next().is_some_and(|to| to.bytes().all(|digit| digit == b'0'))
            && columns.next() == Some("00")
    };
    let links = table.lines().filter(is_default).filter_map(|line| line.split_whitespace().last());
    links.filter(|link| *link != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_default_routes_name_a_way_out() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  enp0s2\t00000000\t0202000A\t0003\t0\t0\t1024\t00000000\t0\t0\t0\n\
                  ingot0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(default_links_v4(v4), ["enp0s2"]);
        let zero = "00000000000000000000000000000000";
        let v6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000002 00000400 00000001 00000000 00000003   enp0s2\n\
             fd000010000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001   ingot0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
        );
        assert_eq!(default_links_v6(&v6), ["enp0s2"]);
    }
}
