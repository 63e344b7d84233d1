//! What the kernel of a node in a cluster needs: modules that kube-proxy's rules are made of, and forwarding. Each is tried; what is
//! missing shows in what needs it.

use std::fs;

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
