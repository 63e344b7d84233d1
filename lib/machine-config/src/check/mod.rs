//! Rules about meaning, which no schema can say: within a section, within a pod, and between them.
//!
//! Each rule refuses what can never work, and tells what to write instead. What merely may not work today (an image that
//! is absent, a limit too small to start with) is accepted: the pod's status says so.

mod data;
mod kubernetes;
mod network;
mod pod;
mod registries;

use crate::Config;
use crate::problem::Problem;
use crate::v1::api::Api;
use crate::v1::kernel::Kernel;
use crate::v1::machine::Machine;
use crate::v1::network::Network;
use crate::v1::pod::Pod;
use crate::v1::pods::Pods;
use std::collections::HashMap;
use std::hash::Hash;

/// Smallest log file that is worth rotating, in bytes: smaller ones are rotated faster than anybody can read them.
const MIN_LOG_BYTES: u64 = 64 << 10;

/// Something wrong, by path in its document.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Finding {
    fn new(path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: hint.into() }
    }

    fn without_line(self, document: u32) -> Problem {
        let Self { path, message, hint } = self;
        Problem { document, path, message, hint, ..Problem::default() }
    }
}

/// Rules within the machine document, section by section.
pub(crate) fn machine(machine: &Machine) -> Vec<Finding> {
    let mut findings = network::check(&machine.network);
    duplicates(&mut findings, "time.servers", &machine.time.servers);
    kernel(&mut findings, &machine.kernel);
    api(&mut findings, &machine.api);
    pods_section(&mut findings, &machine.pods);
    findings.extend(registries::check(&machine.registries));
    findings.extend(kubernetes::check(machine));
    findings
}

/// Rules within one pod.
pub(crate) fn pod(pod: &Pod) -> Vec<Finding> {
    pod::check(pod)
}

pub(crate) use data::{config_map, data, references, secret};

/// Rules between pods; each finding with the document it is about.
pub(crate) fn pods(pods: &[(u32, Pod)]) -> Vec<(u32, Finding)> {
    let mut findings = Vec::new();
    let mut names = HashMap::new();
    let mut uids = HashMap::new();
    for (document, pod) in pods {
        if names.insert(pod.full_name(), *document).is_some() {
            let message = format!("a pod named \"{}\" is already in the config", pod.full_name());
            findings.push((
                *document,
                Finding::new("metadata.name", message, "give it another name or namespace"),
            ));
        } else if let Some(first) = uids.insert(pod.uid(), pod.full_name()) {
            let message = format!("the pod \"{first}\" has the same uid");
            findings.push((*document, Finding::new("metadata.uid", message, "leave the uid out")));
        }
    }
    host_ports(&mut findings, pods);
    findings
}

/// A port of the node can lead to one pod only.
fn host_ports(findings: &mut Vec<(u32, Finding)>, pods: &[(u32, Pod)]) {
    let mut taken: HashMap<_, (u32, String)> = HashMap::new();
    for (document, pod) in pods {
        let lists =
            [("initContainers", &pod.spec.init_containers), ("containers", &pod.spec.containers)];
        for (list, containers) in lists {
            for (at, container) in containers.iter().enumerate() {
                for (index, port) in container.ports.iter().enumerate() {
                    let Some(number) = port.host_port else { continue };
                    let key = (number, port.protocol, port.host_ip.clone());
                    let (first, name) = taken.entry(key).or_insert((*document, pod.full_name()));
                    if first != document {
                        let path = format!("spec.{list}[{at}].ports[{index}].hostPort");
                        let message = format!(
                            "port {number} of the node already leads to the pod \"{name}\""
                        );
                        findings.push((*document, Finding::new(path, message, "use another one")));
                    }
                }
            }
        }
    }
}

/// Rules between the machine and its pods; `None` is a finding about the machine document.
pub(crate) fn together(machine: &Machine, pods: &[(u32, Pod)]) -> Vec<(Option<u32>, Finding)> {
    let mut findings = Vec::new();
    let bridged = pods.iter().filter(|(_, pod)| !pod.spec.host_network);
    let room = network::pod_addresses(&machine.network.pods);
    let count = bridged.clone().count();
    if u64::try_from(count).is_ok_and(|count| count > room) {
        let message = format!(
            "has room for {room} pods, but the config holds {count} with an address of their own"
        );
        let hint = "use a shorter prefix length, or hostNetwork for some pods";
        findings.push((None, Finding::new("network.pods.ipv4Subnet", message, hint)));
    }
    let forwarding = machine.kernel.sysctls.get("net.ipv4.ip_forward");
    if count > 0 && forwarding.is_some_and(|value| value.0.trim() == "0") {
        let message = "pods with an address of their own need forwarding, and there are some";
        let path = "kernel.sysctls[\"net.ipv4.ip_forward\"]";
        findings.push((
            None,
            Finding::new(path, message, "remove the line, or use hostNetwork for all pods"),
        ));
    }
    for (document, pod) in bridged {
        let limit = pod.pids_limit(machine.pods.pids_limit);
        let sidecars = pod.spec.init_containers.iter().filter(|container| container.is_sidecar());
        let containers = pod.spec.containers.len() + sidecars.count();
        let containers = u32::try_from(containers).unwrap_or(u32::MAX);
        if limit < containers {
            let message = format!(
                "a limit of {limit} is less than the pod's {containers} containers need to start"
            );
            findings.push((
                Some(*document),
                Finding::new("metadata.annotations", message, "raise ingot.dev/pids-limit"),
            ));
        }
    }
    findings
}

fn kernel(findings: &mut Vec<Finding>, kernel: &Kernel) {
    let names: Vec<_> = kernel.modules.iter().map(|module| module.name.replace('-', "_")).collect();
    duplicates_by(findings, &names, |index| format!("kernel.modules[{index}].name"));
    for (name, instead) in
        [("kernel.hostname", "network.hostname"), ("kernel.domainname", "network.hostname")]
    {
        if kernel.sysctls.contains_key(name) {
            let path = format!("kernel.sysctls[\"{name}\"]");
            findings.push(Finding::new(
                path,
                "is set by another section",
                format!("write it to {instead}"),
            ));
        }
    }
}

fn api(findings: &mut Vec<Finding>, api: &Api) {
    duplicates(findings, "api.names", &api.names);
    let Some(ca) = &api.ca else {
        let hint = "write the certificate authority that `ingotctl gen` makes to api.ca";
        findings.push(Finding::new(
            "api",
            "has no \"ca\", so nobody could ever call this node",
            hint,
        ));
        return;
    };
    if ca.key.is_none() && api.certificate.is_none() {
        let hint = "write api.ca.key, or a certificate of the node's own to api.certificate";
        findings.push(Finding::new(
            "api.ca",
            "has no \"key\", so the node cannot make its own certificate",
            hint,
        ));
    }
}

fn pods_section(findings: &mut Vec<Finding>, pods: &Pods) {
    if pods.log_max_size.units() < MIN_LOG_BYTES {
        let message = format!("{} is too small for a log file", pods.log_max_size);
        findings.push(Finding::new("pods.logMaxSize", message, "write at least 64Ki"));
    }
    if let Some(total) = &pods.log_max_total
        && total.units() < pods.log_max_size.units()
    {
        let message = format!("{total} is less than one log file, {}", pods.log_max_size);
        findings.push(Finding::new("pods.logMaxTotal", message, "write more than logMaxSize"));
    }
}

/// Entries of a list of texts that were given before.
fn duplicates(findings: &mut Vec<Finding>, path: &str, entries: &[String]) {
    duplicates_by(findings, entries, |index| format!("{path}[{index}]"));
}

/// Entries that were given before, `path` being that of the entry with an index.
fn duplicates_by<T: Hash + Eq + std::fmt::Display>(
    findings: &mut Vec<Finding>,
    entries: &[T],
    path: impl Fn(usize) -> String,
) {
    let mut seen = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if let Some(first) = seen.get(entry) {
            let message = format!("\"{entry}\" is already given at {}", path(*first));
            findings.push(Finding::new(path(index), message, "remove one of them"));
        } else {
            seen.insert(entry, index);
        }
    }
}

/// Checks a whole config that no text stands behind; the problems have no lines.
pub(crate) fn config(config: &Config) -> Vec<Problem> {
    let numbered: Vec<_> = (1..).zip(config.pods.iter().cloned()).collect();
    let mut found: Vec<(u32, Finding)> =
        machine(&config.machine).into_iter().map(|finding| (0, finding)).collect();
    for (document, one) in &numbered {
        found.extend(pod(one).into_iter().map(|finding| (*document, finding)));
    }
    found.extend(pods(&numbered));
    let maps: Vec<_> = (1..).zip(config.config_maps.iter().cloned()).collect();
    let secrets: Vec<_> = (1..).zip(config.secrets.iter().cloned()).collect();
    found.extend(data(&maps, &secrets));
    found.extend(references(&numbered, &maps, &secrets));
    let together = together(&config.machine, &numbered).into_iter();
    found.extend(together.map(|(document, finding)| (document.unwrap_or(0), finding)));
    found.into_iter().map(|(document, finding)| finding.without_line(document)).collect()
}

/// Checks section `network` alone, for a node that has no config yet.
pub(crate) fn network(network: &Network) -> Vec<Problem> {
    network::check(network).into_iter().map(|finding| finding.without_line(0)).collect()
}
