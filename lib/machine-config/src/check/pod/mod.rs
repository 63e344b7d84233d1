//! Rules within one pod. Where upstream refuses something, so do we; we also refuse what upstream would quietly ignore.

mod container;
mod probe;
mod security;
mod volume;

use super::{Finding, duplicates_by};
use crate::v1::pod::{Container, DnsPolicy, PIDS_LIMIT_ANNOTATION, Pod, PodSpec};
use crate::validate::similar;
use std::collections::HashMap;

/// Most processes a kernel can have (PID_MAX_LIMIT on 64 bit).
const MAX_PIDS: u32 = 4_194_304;

pub(super) fn check(pod: &Pod) -> Vec<Finding> {
    let mut findings = Vec::new();
    annotations(&mut findings, pod);
    let spec = &pod.spec;
    names(&mut findings, spec);
    volume::check(&mut findings, spec);
    for (path, container, init) in containers(spec) {
        container::check(&mut findings, &path, container, init, spec);
    }
    security::pod(&mut findings, spec);
    namespaces(&mut findings, spec);
    dns(&mut findings, spec);
    let class = spec.priority_class_name.map(|class| class.priority());
    if let (Some(own), Some(class)) = (spec.priority, class)
        && own != class
    {
        let message = format!("the class stands for {class}");
        findings.push(Finding::new("spec.priority", message, "remove one of the two"));
    }
    findings
}

/// Every container with its path, and whether it is an init container.
fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, &Container, bool)> {
    let with =
        |list: &'static str, init| move |(index, c)| (format!("spec.{list}[{index}]"), c, init);
    let init = spec.init_containers.iter().enumerate().map(with("initContainers", true));
    init.chain(spec.containers.iter().enumerate().map(with("containers", false)))
}

fn names(findings: &mut Vec<Finding>, spec: &PodSpec) {
    let (mut seen, mut ports) = (HashMap::new(), HashMap::new());
    for (path, container, _) in containers(spec) {
        let at = format!("{path}.name");
        if let Some(first) = seen.insert(container.name.as_str(), at.clone()) {
            let message = format!("\"{}\" is already given at {first}", container.name);
            findings.push(Finding::new(at, message, "remove one of them"));
        }
        for (index, port) in container.ports.iter().enumerate() {
            let at = format!("{path}.ports[{index}]");
            if let Some(port) =
                port.host_port.map(|number| (number, port.protocol, port.host_ip.clone()))
                && let Some(first) = ports.insert(port.clone(), at.clone())
            {
                let message = format!("port {} of the node is already given at {first}", port.0);
                findings.push(Finding::new(format!("{at}.hostPort"), message, "use another one"));
            }
            if let Some(own) =
                port.host_port.filter(|own| spec.host_network && *own != port.container_port)
            {
                let message = format!(
                    "{own} differs from containerPort, but the pod uses the node's network"
                );
                findings.push(Finding::new(format!("{at}.hostPort"), message, "remove it"));
            }
        }
    }
}

/// Annotations are free, but those below `ingot.dev/` are ours, and a mistyped limit must not pass as none.
fn annotations(findings: &mut Vec<Finding>, pod: &Pod) {
    for (name, value) in &pod.metadata.annotations {
        let path = format!("metadata.annotations[\"{name}\"]");
        if name == PIDS_LIMIT_ANNOTATION {
            if !value.parse::<u32>().is_ok_and(|limit| (1..=MAX_PIDS).contains(&limit)) {
                let hint = format!("write a whole number from 1 to {MAX_PIDS}, in quotes");
                findings.push(Finding::new(path, format!("\"{value}\" is no limit"), hint));
            }
        } else if name.starts_with("ingot.dev/") {
            let hint = match similar(name, [PIDS_LIMIT_ANNOTATION].into_iter()) {
                Some(known) => format!("did you mean \"{known}\"?"),
                None => format!("Ingot knows \"{PIDS_LIMIT_ANNOTATION}\""),
            };
            findings.push(Finding::new(path, format!("unknown annotation \"{name}\""), hint));
        }
    }
}

fn namespaces(findings: &mut Vec<Finding>, spec: &PodSpec) {
    if spec.host_network && spec.hostname.is_some() {
        let message = "a pod with hostNetwork has the node's host name";
        findings.push(Finding::new("spec.hostname", message, "remove it, or remove hostNetwork"));
    }
    if spec.host_pid && spec.share_process_namespace {
        let message = "a pod with hostPID shares the node's process tree already";
        findings.push(Finding::new("spec.shareProcessNamespace", message, "remove one of the two"));
    }
    if !spec.host_users {
        let shared = [
            ("hostNetwork", spec.host_network),
            ("hostPID", spec.host_pid),
            ("hostIPC", spec.host_ipc),
        ];
        for (field, _) in shared.iter().filter(|(_, on)| *on) {
            let message = format!("a pod with user ids of its own cannot have {field}");
            findings.push(Finding::new(
                "spec.hostUsers",
                message,
                format!("remove it, or remove {field}"),
            ));
        }
    }
}

fn dns(findings: &mut Vec<Finding>, spec: &PodSpec) {
    if spec.dns_policy == DnsPolicy::None && spec.dns_config.nameservers.is_empty() {
        let message = "with \"None\" the pod has no name server at all";
        let hint = "write some to dnsConfig.nameservers, or remove the policy";
        findings.push(Finding::new("spec.dnsPolicy", message, hint));
    }
}

/// Exactly one of `given` must be there. `what` is asked for, as in "has no source".
fn exactly_one(findings: &mut Vec<Finding>, path: &str, what: &str, given: &[(&str, bool)]) {
    let names: Vec<_> = given.iter().map(|(name, _)| *name).collect();
    let present: Vec<_> = given.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    match present.as_slice() {
        [_] => {}
        [] => {
            let hint = format!("write one of {}", names.join(", "));
            findings.push(Finding::new(path, format!("has no {what}"), hint));
        }
        several => {
            let message = format!("has more than one {what}: {}", several.join(", "));
            findings.push(Finding::new(path, message, "remove all but one"));
        }
    }
}
