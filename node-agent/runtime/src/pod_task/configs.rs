//! From a pod of the node's own to what the lower layer carries out. Pure.

mod limits;
mod mounts;

pub(crate) use limits::memory_request_bytes;
pub(super) use mounts::{MountError, Places};

use std::path::Path;

use ingot_machine_config::format::signal_number;
use ingot_machine_config::v1::pod::{
    Container, DnsPolicy, PodSecurityContext, ProcMount, ProfileType, Protocol as PortProtocol,
    SupplementalGroupsPolicy,
};

use super::environment::{Environment, expand_text};
use crate::config::{
    ContainerConfig, Dns, IdMapping, NamespaceMode, NamespaceOptions, PortMapping, Protocol,
    SandboxConfig, Security, SecurityProfile, UserNamespace,
};
use crate::pod::Pod;

/// Where an operator's seccomp profiles are, below the folder of the engine.
const SECCOMP_FOLDER: &str = "/var/lib/ingot/seccomp";

/// Ids in a pod's user namespace.
pub(crate) const USER_IDS: u32 = 65_536;

/// The image's own user cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UserError {
    /// It is root.
    #[error("container has runAsNonRoot and image will run as root")]
    Root,
    /// Nobody knows whether it is.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
    )]
    Unknown { user: String },
}

/// What the node has that a sandbox is made of.
pub(super) struct Node<'a> {
    /// Folder above the log folders of all pods.
    pub(super) logs: &'a Path,
    /// The node's own resolv.conf(5).
    pub(super) resolver: &'a str,
    /// First id of the pod's user namespace.
    pub(super) first_user_id: Option<u32>,
}

/// The sandbox of a pod.
pub(super) fn sandbox(pod: &Pod, node: &Node<'_>) -> SandboxConfig {
    let spec = &pod.spec;
    SandboxConfig {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        uid: pod.uid.clone(),
        hostname: hostname(pod).to_owned(),
        log_directory: Some(node.logs.join(&pod.uid)),
        dns: dns(pod, node.resolver),
        host_aliases: spec
            .host_aliases
            .iter()
            .map(|a| (a.ip.clone(), a.hostnames.clone()))
            .collect(),
        ports: ports(pod),
        labels: pod.labels.clone(),
        annotations: pod.annotations.clone(),
        namespaces: namespaces(pod, node.first_user_id),
        sysctls: spec
            .security_context
            .sysctls
            .iter()
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        resources: limits::of_pod(pod),
        memory_volumes: mounts::in_memory(pod),
        ..SandboxConfig::default()
    }
}

fn namespaces(pod: &Pod, first_user_id: Option<u32>) -> NamespaceOptions {
    let spec = &pod.spec;
    let node_or = |node: bool, other| if node { NamespaceMode::Node } else { other };
    let pid =
        if spec.share_process_namespace { NamespaceMode::Pod } else { NamespaceMode::Container };
    NamespaceOptions {
        network: node_or(spec.host_network, NamespaceMode::Pod),
        pid: node_or(spec.host_pid, pid),
        ipc: node_or(spec.host_ipc, NamespaceMode::Pod),
        user: first_user_id.map(user_namespace),
    }
}

fn user_namespace(first: u32) -> UserNamespace {
    let range = IdMapping { container_id: 0, host_id: first, length: USER_IDS };
    UserNamespace { uids: range, gids: range }
}

/// Name of the pod inside: its own, at most 63 bytes as the kernel and DNS allow; the node's with the node's network.
fn hostname(pod: &Pod) -> &str {
    let name = match (&pod.spec.hostname, pod.spec.host_network) {
        (Some(name), _) => name,
        (None, true) => return "",
        (None, false) => &pod.name,
    };
    name.get(..63).unwrap_or(name).trim_end_matches(['-', '.'])
}

/// `None`: the node's file as it is, also when it changes.
fn dns(pod: &Pod, resolver: &str) -> Option<Dns> {
    let (policy, own) = (pod.spec.dns_policy, &pod.spec.dns_config);
    if policy != DnsPolicy::None && *own == Default::default() {
        return None;
    }
    let mut dns = if policy == DnsPolicy::None { Dns::default() } else { parse_resolver(resolver) };
    let add = |list: &mut Vec<String>, more: &[String]| {
        for word in more {
            if !list.contains(word) {
                list.push(word.clone());
            }
        }
    };
    add(&mut dns.servers, &own.nameservers);
    add(&mut dns.searches, &own.searches);
    for option in &own.options {
        let name = |text: &str| text.split(':').next().unwrap_or(text).to_owned();
        dns.options.retain(|other| name(other) != option.name);
        dns.options.push(match &option.value {
            Some(value) => format!("{}:{value}", option.name),
            None => option.name.clone(),
        });
    }
    Some(dns)
}

fn parse_resolver(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.servers.extend(words.next()),
            Some("search") => dns.searches = words.collect(),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

/// Ports of the node that lead to a pod.
pub(crate) fn ports(pod: &Pod) -> Vec<PortMapping> {
    // With the node's network a port is the node's already.
    let own = if pod.spec.host_network { None } else { Some(pod.all_containers()) };
    let ports = own.into_iter().flatten().flat_map(|container| &container.ports);
    ports
        .filter_map(|port| {
            Some(PortMapping {
                protocol: match port.protocol {
                    PortProtocol::Tcp => Protocol::Tcp,
                    PortProtocol::Udp => Protocol::Udp,
                    PortProtocol::Sctp => Protocol::Sctp,
                },
                container_port: port.container_port,
                host_port: port.host_port?,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

/// What a container is made of besides its pod.
pub(super) struct Parts<'a> {
    pub(super) attempt: u32,
    pub(super) environment: Environment,
    pub(super) places: &'a Places,
    pub(super) first_user_id: Option<u32>,
    /// The user that the image names.
    pub(super) image_user: &'a str,
    pub(super) node_memory_bytes: u64,
}

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// Its volumes.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Its user.
    #[error(transparent)]
    User(#[from] UserError),
}

/// A container of a pod.
pub(super) fn container(
    pod: &Pod,
    container: &Container,
    parts: Parts<'_>,
) -> Result<ContainerConfig, ConfigError> {
    let environment = parts.environment;
    let expanded = |words: &[String]| words.iter().map(|w| expand_text(w, &environment)).collect();
    let user = parts.first_user_id.map(user_namespace);
    let attempt = parts.attempt;
    let stop_signal = container.lifecycle.stop_signal.as_deref().and_then(signal_number);
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt,
        image: container.image.clone(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: mounts::of(pod, container, parts.places, &environment, user.as_ref())?,
        log_path: format!("{}/{attempt}.log", container.name),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        stop_signal,
        resources: limits::of_container(pod, container, parts.node_memory_bytes),
        security: security(pod, container, parts.image_user)?,
        namespaces: namespaces(pod, parts.first_user_id),
        env: environment,
        ..ContainerConfig::default()
    })
}

/// Rights: the container's own words, else the pod's.
fn security(pod: &Pod, container: &Container, image_user: &str) -> Result<Security, UserError> {
    let (own, shared) = (&container.security_context, &pod.spec.security_context);
    let run_as_user = own.run_as_user.or(shared.run_as_user);
    if own.run_as_non_root.or(shared.run_as_non_root).unwrap_or(false) {
        match (run_as_user, image_user.split(':').next().unwrap_or_default()) {
            (Some(0), _) | (None, "" | "0") => return Err(UserError::Root),
            (None, user) if user.parse::<u32>().is_err() => {
                return Err(UserError::Unknown { user: user.to_owned() });
            }
            _ => {}
        }
    }
    let run_as_group = own.run_as_group.or(shared.run_as_group);
    // The runtime takes a group only together with a user.
    let image_user = image_user.split(':').next().unwrap_or_default();
    let (run_as_user, run_as_username) = match (run_as_user, run_as_group) {
        (None, Some(_)) if image_user.is_empty() => (Some(0), String::new()),
        (None, Some(_)) => match image_user.parse() {
            Ok(user) => (Some(user), String::new()),
            Err(_) => (None, image_user.to_owned()),
        },
        _ => (run_as_user, String::new()),
    };
    let profile = |kind: ProfileType, name: Option<String>| match kind {
        ProfileType::RuntimeDefault => SecurityProfile::RuntimeDefault,
        ProfileType::Unconfined => SecurityProfile::Unconfined,
        ProfileType::Localhost => SecurityProfile::Localhost(name.unwrap_or_default()),
    };
    let seccomp = own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref());
    let seccomp = seccomp.map_or(SecurityProfile::RuntimeDefault, |p| {
        let name = p.localhost_profile.as_ref().map(|name| format!("{SECCOMP_FOLDER}/{name}"));
        profile(p.kind, name)
    });
    let apparmor = own.app_armor_profile.as_ref().or(shared.app_armor_profile.as_ref());
    let apparmor = apparmor
        .map_or(SecurityProfile::RuntimeDefault, |p| profile(p.kind, p.localhost_profile.clone()));
    let unmasked = (own.proc_mount == ProcMount::Unmasked).then(Vec::new);
    let no_new_privileges = own.allow_privilege_escalation == Some(false) && !own.privileged;
    Ok(Security {
        privileged: own.privileged,
        run_as_user,
        run_as_group,
        run_as_username,
        supplemental_groups: groups(shared),
        supplemental_groups_strict: shared.supplemental_groups_policy
            == SupplementalGroupsPolicy::Strict,
        read_only_root: own.read_only_root_filesystem,
        capabilities_add: own.capabilities.add.clone(),
        capabilities_drop: own.capabilities.drop.clone(),
        seccomp: if own.privileged { SecurityProfile::Unconfined } else { seccomp },
        apparmor: if own.privileged { SecurityProfile::Unconfined } else { apparmor },
        no_new_privileges,
        masked_paths: unmasked.clone(),
        read_only_paths: unmasked,
        ..Security::default()
    })
}

fn groups(shared: &PodSecurityContext) -> Vec<u32> {
    let mut groups = shared.supplemental_groups.clone();
    groups.extend(shared.fs_group);
    groups.sort_unstable();
    groups.dedup();
    groups
}

#[cfg(test)]
mod tests;
