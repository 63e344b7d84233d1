//! Rights. Upstream's rules: what contradicts itself is refused.

use super::{Finding, duplicates_by};
use crate::v1::pod::{AppArmorProfile, Container, PodSpec, ProcMount, ProfileType, SeccompProfile};

/// Kernel parameters that belong to the IPC namespace; all below `net.` belong to the network's.
const IPC_SYSCTLS: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

pub(super) fn pod(findings: &mut Vec<Finding>, spec: &PodSpec) {
    let security = &spec.security_context;
    let path = "spec.securityContext";
    not_root(findings, path, security.run_as_non_root, security.run_as_user);
    profiles(
        findings,
        path,
        security.seccomp_profile.as_ref(),
        security.app_armor_profile.as_ref(),
    );
    let names: Vec<_> =
        security.sysctls.iter().map(|sysctl| sysctl.name.replace('/', ".")).collect();
    duplicates_by(findings, &names, |index| format!("{path}.sysctls[{index}].name"));
    for (index, name) in names.iter().enumerate() {
        let at = format!("{path}.sysctls[{index}].name");
        let ipc = IPC_SYSCTLS.iter().any(|prefix| name.starts_with(prefix));
        if name.starts_with("net.") && spec.host_network || ipc && spec.host_ipc {
            let message = format!("\"{name}\" would be changed for the whole node");
            findings.push(Finding::new(at, message, "write it to kernel.sysctls of the machine"));
        } else if !name.starts_with("net.") && !ipc {
            let message = format!("\"{name}\" is a parameter of the node, not of a pod");
            findings.push(Finding::new(at, message, "write it to kernel.sysctls of the machine"));
        }
    }
}

pub(super) fn container(
    findings: &mut Vec<Finding>,
    path: &str,
    container: &Container,
    spec: &PodSpec,
) {
    let security = &container.security_context;
    let path = &format!("{path}.securityContext");
    let all = |list: &[String]| list.iter().any(|name| name == "ALL" || name == "SYS_ADMIN");
    if security.allow_privilege_escalation == Some(false)
        && (security.privileged || all(&security.capabilities.add))
    {
        let why = if security.privileged { "\"privileged\"" } else { "the capability SYS_ADMIN" };
        let message = format!("{why} gives every right already");
        let hint = "remove it, or remove allowPrivilegeEscalation";
        findings.push(Finding::new(format!("{path}.allowPrivilegeEscalation"), message, hint));
    }
    for (field, list) in
        [("add", &security.capabilities.add), ("drop", &security.capabilities.drop)]
    {
        duplicates_by(findings, list, |index| format!("{path}.capabilities.{field}[{index}]"));
    }
    let user = security.run_as_user.or(spec.security_context.run_as_user);
    not_root(findings, path, security.run_as_non_root, user);
    profiles(
        findings,
        path,
        security.seccomp_profile.as_ref(),
        security.app_armor_profile.as_ref(),
    );
    if security.proc_mount == ProcMount::Unmasked && spec.host_users {
        let message = "shows the node's /proc to a root who is the node's";
        findings.push(Finding::new(
            format!("{path}.procMount"),
            message,
            "add \"hostUsers: false\" to the pod",
        ));
    }
}

fn not_root(findings: &mut Vec<Finding>, path: &str, non_root: Option<bool>, user: Option<u32>) {
    if non_root == Some(true) && user == Some(0) {
        let message = "the user is 0, which is root";
        findings.push(Finding::new(
            format!("{path}.runAsNonRoot"),
            message,
            "write another runAsUser",
        ));
    }
}

fn profiles(
    findings: &mut Vec<Finding>,
    path: &str,
    seccomp: Option<&SeccompProfile>,
    apparmor: Option<&AppArmorProfile>,
) {
    let seccomp =
        seccomp.map(|profile| ("seccompProfile", profile.kind, &profile.localhost_profile));
    let apparmor =
        apparmor.map(|profile| ("appArmorProfile", profile.kind, &profile.localhost_profile));
    for (field, kind, name) in seccomp.into_iter().chain(apparmor) {
        let at = format!("{path}.{field}.localhostProfile");
        match (kind, name) {
            (ProfileType::Localhost, None) => {
                findings.push(Finding::new(at, "is missing: which profile?", "write its name"));
            }
            (ProfileType::RuntimeDefault | ProfileType::Unconfined, Some(_)) => {
                findings.push(Finding::new(at, "is only for \"type: Localhost\"", "remove it"));
            }
            _ => {}
        }
    }
}
