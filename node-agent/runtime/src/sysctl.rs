//! Kernel parameters that a pod may set: those of its own namespaces, and no others. Pure.
//!
//! Names and values come from pods: a value with a second line or another parameter in it must never reach the kernel
//! (CVE-2022-0811), and a parameter of a namespace that the pod shares with the node would change the node (CVE-2022-0532).

use std::collections::BTreeMap;

use crate::config::{NamespaceMode, NamespaceOptions};

/// Parameters of an IPC namespace.
const OF_IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msg_next_id",
    "kernel.sem_next_id",
    "kernel.shm_next_id",
];

/// Longest value: every parameter that a namespace has is shorter by far.
const VALUE_LENGTH_MAX: usize = 256;

/// Why a parameter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SysctlError {
    /// It is not one of a namespace.
    #[error("{name} belongs to the node, not to a pod")]
    NotOfPod { name: String },
    /// The pod shares the namespace with the node.
    #[error("{name} would change the node: the pod shares its {namespace} namespace")]
    Shared { name: String, namespace: &'static str },
    /// The name is none.
    #[error("{name:?} is not the name of a kernel parameter")]
    Name { name: String },
    /// The value is none.
    #[error("the value of {name} is not one line of printable characters")]
    Value { name: String },
}

/// The parameters, with dots in their names, if all may be set.
pub(crate) fn checked(
    sysctls: &BTreeMap<String, String>,
    namespaces: &NamespaceOptions,
) -> Result<Vec<(String, String)>, SysctlError> {
    let mut result = Vec::new();
    for (name, value) in sysctls {
        // Both ways of writing are in use; in the one with slashes a dot is part of a link's name, which then has none.
        let dotted = name.replace('/', ".");
        let part = |part: &str| {
            let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            !part.is_empty() && part.bytes().all(safe)
        };
        if !dotted.contains('.') || !dotted.split('.').all(part) {
            return Err(SysctlError::Name { name: name.clone() });
        }
        let printable = |b: u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\t');
        if value.len() > VALUE_LENGTH_MAX || !value.bytes().all(printable) {
            return Err(SysctlError::Value { name: name.clone() });
        }
        let shared = |mode: &NamespaceMode, namespace| match mode {
            NamespaceMode::Node => Err(SysctlError::Shared { name: dotted.clone(), namespace }),
            _ => Ok(()),
        };
        if dotted.starts_with("net.") {
            shared(&namespaces.network, "network")?;
        } else if OF_IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            shared(&namespaces.ipc, "IPC")?;
        } else {
            return Err(SysctlError::NotOfPod { name: dotted });
        }
        result.push((dotted, value.clone()));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str, namespaces: &NamespaceOptions) -> Result<(), SysctlError> {
        checked(&BTreeMap::from([(name.to_owned(), value.to_owned())]), namespaces).map(|_| ())
    }

    #[test]
    fn parameters_of_the_pods_own_namespaces_are_set() {
        let own = NamespaceOptions::default();
        for name in [
            "net.core.somaxconn",
            "net/ipv4/ip_forward",
            "kernel.shm_rmid_forced",
            "fs.mqueue.msg_max",
        ] {
            assert_eq!(check(name, "1", &own), Ok(()), "{name}");
        }
    }

    #[test]
    fn cve_2022_0811_a_value_cannot_carry_another_parameter_of_the_node() {
        let own = NamespaceOptions::default();
        for (name, value) in [
            ("kernel.core_pattern", "|/bin/evil"),
            ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/bin/evil"),
            ("kernel.shm_rmid_forced+kernel.core_pattern", "|/bin/evil"),
            ("net/../kernel/core_pattern", "x"),
            ("net.ipv4.ip_forward ", "1"),
            ("net", "1"),
            ("vm.overcommit_memory", "1"),
        ] {
            assert!(check(name, value, &own).is_err(), "{name}={value:?}");
        }
    }

    #[test]
    fn cve_2022_0532_parameters_of_a_shared_namespace_are_refused() {
        let shared = NamespaceOptions {
            network: NamespaceMode::Node,
            ipc: NamespaceMode::Node,
            ..NamespaceOptions::default()
        };
        for name in ["net.ipv4.ip_forward", "kernel.shmmax", "fs.mqueue.msg_max"] {
            let refused = check(name, "1", &shared);
            assert!(matches!(refused, Err(SysctlError::Shared { .. })), "{name}");
        }
    }
}
