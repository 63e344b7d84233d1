//! Rules of section `kubernetes`: networks that fit each other, arguments that do not cut the cluster's own ground away.

use super::Finding;
use crate::join::JoinToken;
use crate::manifest::manifests;
use crate::v1::kubernetes::{ADDONS, Kubernetes, Role};
use crate::v1::machine::Machine;
use ipnet::IpNet;

/// Arguments that are how the parts of a cluster find and trust each other: with others nothing works, or anybody may do anything.
const FIXED: &[(&str, &[&str])] = &[
    (
        "etcd",
        &[
            "data-dir",
            "client-cert-auth",
            "peer-client-cert-auth",
            "trusted-ca-file",
            "listen-client-urls",
        ],
    ),
    (
        "kube-apiserver",
        &[
            "etcd-servers",
            "client-ca-file",
            "authorization-mode",
            "secure-port",
            "service-account-key-file",
        ],
    ),
    ("kube-controller-manager", &["kubeconfig", "cluster-cidr", "service-cluster-ip-range"]),
    ("kube-scheduler", &["kubeconfig"]),
    ("kubelet", &["kubeconfig", "config", "hostname-override"]),
];

/// A service network with more addresses than this is one that upstream refuses.
const SERVICE_BITS_MAX: u8 = 20;

pub(super) fn check(machine: &Machine) -> Vec<Finding> {
    let Some(kubernetes) = &machine.kubernetes else { return Vec::new() };
    let mut findings = Vec::new();
    networks(&mut findings, kubernetes);
    for (name, addon) in &kubernetes.addons {
        if !ADDONS.contains(&name.as_str()) && addon.manifest.is_none() {
            let message =
                format!("there is no add-on \"{name}\", and no manifest is given for one");
            let hint = format!("write one of {}, or a manifest", ADDONS.join(", "));
            findings.push(Finding::new(format!("kubernetes.addons[\"{name}\"]"), message, hint));
        }
        let wrong = addon.manifest.as_deref().and_then(|text| manifests(text).err());
        if let Some(problem) = wrong {
            findings.push(Finding::new(
                format!("kubernetes.addons[\"{name}\"].manifest"),
                problem,
                "write Kubernetes objects, parted by lines of \"---\"",
            ));
        }
        if !addon.enabled && addon.manifest.is_some() {
            findings.push(Finding::new(
                format!("kubernetes.addons[\"{name}\"]"),
                "has a manifest and is switched off",
                "remove one of the two",
            ));
        }
    }
    for (program, field, component) in kubernetes.components() {
        let fixed = FIXED.iter().find(|(name, _)| *name == program).map_or(&[][..], |row| row.1);
        for name in component.extra_args.keys().filter(|name| fixed.contains(&name.as_str())) {
            findings.push(Finding::new(
                format!("kubernetes.{field}.extraArgs[\"{name}\"]"),
                format!("is set by Ingot, and {program} cannot work in this cluster without it"),
                "remove the line",
            ));
        }
    }
    if kubernetes.role == Role::ControlPlane && kubernetes.join_token.is_some() {
        findings.push(Finding::new(
            "kubernetes.joinToken",
            "is for workers, and this node is a control plane",
            "remove the line, or write role: worker",
        ));
    } else if let Some(wrong) = kubernetes.join_token.as_ref().map(JoinToken::parse)
        && let Err(error) = wrong
    {
        findings.push(Finding::new(
            "kubernetes.joinToken",
            error.to_string(),
            "make one on a control plane: ingotctl join-token",
        ));
    }
    findings
}

fn networks(findings: &mut Vec<Finding>, kubernetes: &Kubernetes) {
    let network = &kubernetes.network;
    let families = |list: &[IpNet]| list.iter().map(is_v6).collect::<Vec<_>>();
    for (path, list) in [("podCidrs", &network.pod_cidrs), ("serviceCidrs", &network.service_cidrs)]
    {
        if let [first, second] = list.as_slice()
            && is_v6(first) == is_v6(second)
        {
            findings.push(Finding::new(
                format!("kubernetes.network.{path}[1]"),
                "is of the same IP version as the first",
                "write one IPv4 and one IPv6 network, or only one network",
            ));
        }
        for (index, net) in list.iter().enumerate() {
            if net.addr() != net.network() {
                findings.push(Finding::new(
                    format!("kubernetes.network.{path}[{index}]"),
                    format!("{net} is an address in a network, not a network"),
                    format!("write {}", net.trunc()),
                ));
            }
        }
    }
    if families(&network.pod_cidrs) != families(&network.service_cidrs) {
        findings.push(Finding::new(
            "kubernetes.network.serviceCidrs",
            "is not of the same IP versions, in the same order, as podCidrs",
            "write a service network for each pod network",
        ));
    }
    for (index, net) in network.service_cidrs.iter().enumerate() {
        if net.max_prefix_len() - net.prefix_len() > SERVICE_BITS_MAX {
            findings.push(Finding::new(
                format!("kubernetes.network.serviceCidrs[{index}]"),
                format!("{net} has more than 2^{SERVICE_BITS_MAX} addresses, which kube-apiserver refuses"),
                format!("use a prefix of /{} or longer", net.max_prefix_len() - SERVICE_BITS_MAX),
            ));
        }
        for pods in &network.pod_cidrs {
            if pods.contains(&net.network()) || net.contains(&pods.network()) {
                findings.push(Finding::new(
                    format!("kubernetes.network.serviceCidrs[{index}]"),
                    format!("{net} and the pod network {pods} overlap"),
                    "use networks that share no address",
                ));
            }
        }
    }
    for (index, net) in network.pod_cidrs.iter().enumerate() {
        let per_node = if is_v6(net) { 64 } else { 24 };
        if net.prefix_len() > per_node {
            findings.push(Finding::new(
                format!("kubernetes.network.podCidrs[{index}]"),
                format!("{net} is smaller than the part of one node, a /{per_node}"),
                format!("use a prefix of /{per_node} or shorter"),
            ));
        }
    }
}

fn is_v6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}
