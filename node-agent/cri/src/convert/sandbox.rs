//! Sandboxes.

use std::net::IpAddr;

use ingot_runtime::config::{
    Dns, NamespaceMode, NamespaceOptions, PortMapping, Protocol, Resources, SandboxConfig, Security,
};

use super::resources::resources;
use super::security::{self, user_namespace};
use crate::check::{Checked, Invalid, absolute, known, number, required, text};
use crate::v1;

/// Names of the one runtime handler there is. The empty one is the default.
pub(crate) const HANDLERS: &[&str] = &["", "ingot"];

/// Groups that belong to the node itself; no caller may put pods there.
const OWN_CGROUPS: &[&str] = &["init", "system", "pods"];

/// A sandbox that a caller describes.
pub(crate) fn sandbox(from: v1::PodSandboxConfig, handler: String) -> Checked<SandboxConfig> {
    let metadata =
        from.metadata.ok_or_else(|| Invalid::new("config.metadata", "has to be given"))?;
    if !HANDLERS.contains(&handler.as_str()) {
        let problem = format!("{handler:?} is not known; leave it empty, or write \"ingot\"");
        return Err(Invalid::new("runtime_handler", problem));
    }
    let linux = from.linux.unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let namespaces = namespaces(context.namespace_options.clone().unwrap_or_default())?;
    let cgroup_parent = cgroup_parent(linux.cgroup_parent)?;
    let log_directory = match from.log_directory {
        none if none.is_empty() => None,
        given => Some(absolute("config.log_directory", given, false)?),
    };
    let mut limits = Resources::default();
    if let Some(given) = linux.resources {
        limits = resources("config.linux.resources", given)?;
    }
    let sysctls = linux.sysctls.into_iter().collect();
    Ok(SandboxConfig {
        name: required("config.metadata.name", metadata.name)?,
        namespace: required("config.metadata.namespace", metadata.namespace)?,
        uid: required("config.metadata.uid", metadata.uid)?,
        attempt: metadata.attempt,
        hostname: hostname(from.hostname)?,
        log_directory,
        dns: from.dns_config.map(dns).transpose()?.flatten(),
        host_aliases: Vec::new(),
        ports: ports(from.port_mappings)?,
        labels: from.labels.into_iter().collect(),
        annotations: from.annotations.into_iter().collect(),
        runtime_handler: handler,
        cgroup_parent_is_pod: !cgroup_parent.is_empty(),
        cgroup_parent,
        sysctls: checked_sysctls(sysctls, &namespaces)?,
        namespaces,
        security: sandbox_security(context)?,
        resources: limits,
        shm_size_bytes: None,
        memory_volumes: std::collections::BTreeMap::new(),
    })
}

fn sandbox_security(context: v1::LinuxSandboxSecurityContext) -> Checked<Security> {
    let at = |name: &str| format!("config.linux.security_context.{name}");
    if context.run_as_group.is_some() && context.run_as_user.is_none() {
        return Err(Invalid::new(at("run_as_group"), "needs run_as_user"));
    }
    let id = |name, value: Option<v1::Int64Value>| {
        value.map(|v| number::<u32>(&at(name), v.value)).transpose()
    };
    Ok(Security {
        privileged: context.privileged,
        run_as_user: id("run_as_user", context.run_as_user)?,
        run_as_group: id("run_as_group", context.run_as_group)?,
        read_only_root: context.readonly_rootfs,
        seccomp: security::seccomp_or_path(
            &at("seccomp"),
            context.seccomp,
            #[expect(deprecated, reason = "older callers send nothing else")]
            &context.seccomp_profile_path,
        )?,
        ..Security::default()
    })
}

fn namespaces(from: v1::NamespaceOption) -> Checked<NamespaceOptions> {
    let at = |name: &str| format!("config.linux.security_context.namespace_options.{name}");
    let shared = |name: &str, value: i32| match known::<v1::NamespaceMode>(&at(name), value)? {
        v1::NamespaceMode::Pod => Ok(NamespaceMode::Pod),
        v1::NamespaceMode::Node => Ok(NamespaceMode::Node),
        _ => Err(Invalid::new(at(name), "is the pod's or the node's; write POD or NODE")),
    };
    let pid = match known::<v1::NamespaceMode>(&at("pid"), from.pid)? {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Container => NamespaceMode::Container,
        v1::NamespaceMode::Node => NamespaceMode::Node,
        v1::NamespaceMode::Target => {
            return Err(Invalid::new(at("pid"), "TARGET is for containers only"));
        }
    };
    let network = shared("network", from.network)?;
    let user = user_namespace(&at("userns_options"), from.userns_options)?;
    if user.is_some() && network == NamespaceMode::Node {
        let problem = "a pod with user ids of its own cannot use the node's network";
        return Err(Invalid::new(at("userns_options"), problem));
    }
    Ok(NamespaceOptions { network, pid, ipc: shared("ipc", from.ipc)?, user })
}

/// From the root of the hierarchy, with the leading slash.
fn cgroup_parent(value: String) -> Checked<String> {
    const FIELD: &str = "config.linux.cgroup_parent";
    if value.is_empty() {
        return Ok(value);
    }
    let rooted = if value.starts_with('/') { value } else { format!("/{value}") };
    let path = absolute(FIELD, rooted, false)?;
    let top = path.iter().nth(1).and_then(|part| part.to_str()).unwrap_or_default();
    if OWN_CGROUPS.contains(&top) {
        let problem = format!("/{top} belongs to the node; use another, such as /kubepods");
        return Err(Invalid::new(FIELD, problem));
    }
    // Components put together again have no double or trailing slashes.
    Ok(path.components().collect::<std::path::PathBuf>().to_string_lossy().into_owned())
}

fn hostname(value: String) -> Checked<String> {
    let value = text("config.hostname", value)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if value.len() > 64 || !value.bytes().all(plain) {
        let problem = format!("{value:?} is no host name of at most 64 letters, digits, - and .");
        return Err(Invalid::new("config.hostname", problem));
    }
    Ok(value)
}

/// `None` when nothing is said: then the node's resolvers are used.
fn dns(from: v1::DnsConfig) -> Checked<Option<Dns>> {
    let words = |field: &str, words: Vec<String>| -> Checked<Vec<String>> {
        let one = |word: String| {
            if word.is_empty() || word.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(Invalid::new(field, format!("{word:?} is not one word")));
            }
            text(field, word)
        };
        words.into_iter().map(one).collect()
    };
    let dns = Dns {
        servers: words("config.dns_config.servers", from.servers)?,
        searches: words("config.dns_config.searches", from.searches)?,
        options: words("config.dns_config.options", from.options)?,
    };
    Ok((dns != Dns::default()).then_some(dns))
}

/// Those that lead anywhere: port 0 of the node means none.
fn ports(from: Vec<v1::PortMapping>) -> Checked<Vec<PortMapping>> {
    const FIELD: &str = "config.port_mappings";
    let one = |port: v1::PortMapping| {
        if !port.host_ip.is_empty() && port.host_ip.parse::<IpAddr>().is_err() {
            return Err(Invalid::new(FIELD, format!("{:?} is no IP address", port.host_ip)));
        }
        let protocol = match known::<v1::Protocol>(FIELD, port.protocol)? {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        };
        let container_port = number(FIELD, port.container_port.into())?;
        let host_port = number(FIELD, port.host_port.into())?;
        if container_port == 0 && host_port != 0 {
            return Err(Invalid::new(FIELD, "container_port is 0; write 1 to 65535"));
        }
        Ok(PortMapping { protocol, container_port, host_port, host_ip: port.host_ip })
    };
    from.into_iter().filter(|port| port.host_port != 0).map(one).collect()
}

/// Only kernel parameters that belong to a namespace the pod has for itself.
fn checked_sysctls(
    sysctls: std::collections::BTreeMap<String, String>,
    namespaces: &NamespaceOptions,
) -> Checked<std::collections::BTreeMap<String, String>> {
    const FIELD: &str = "config.linux.sysctls";
    for (name, value) in &sysctls {
        let dotted = name.replace('/', ".");
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
        let network = dotted.starts_with("net.");
        let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
        let ipc = ipc.iter().any(|start| dotted.starts_with(start));
        if !name.bytes().all(plain) || dotted.contains("..") || !(network || ipc) {
            let problem = format!(
                "{name} does not belong to a pod; only net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.* do"
            );
            return Err(Invalid::new(FIELD, problem));
        }
        let mode = if network { &namespaces.network } else { &namespaces.ipc };
        if *mode == NamespaceMode::Node {
            let problem = format!("{name} would change the node, whose namespace the pod uses");
            return Err(Invalid::new(FIELD, problem));
        }
        text(FIELD, value.clone())?;
    }
    Ok(sysctls)
}
