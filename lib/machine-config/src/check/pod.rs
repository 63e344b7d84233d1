//! Rules within one pod. Where upstream refuses something, so do we; we also refuse what upstream would quietly ignore.

use super::{Finding, duplicates_by};
use crate::quantity::Quantity;
use crate::v1::pod::{Container, PIDS_LIMIT_ANNOTATION, Pod, Volume};
use crate::validate::similar;

/// Most processes a kernel can have (PID_MAX_LIMIT on 64 bit).
const MAX_PIDS: u32 = 4_194_304;

pub(super) fn check(pod: &Pod) -> Vec<Finding> {
    let mut findings = Vec::new();
    annotations(&mut findings, pod);
    let spec = &pod.spec;
    let names: Vec<_> = spec.containers.iter().map(|container| &container.name).collect();
    duplicates_by(&mut findings, &names, |index| format!("spec.containers[{index}].name"));
    let names: Vec<_> = spec.volumes.iter().map(|volume| &volume.name).collect();
    duplicates_by(&mut findings, &names, |index| format!("spec.volumes[{index}].name"));
    for (index, volume) in spec.volumes.iter().enumerate() {
        if volume.empty_dir.size_limit.as_ref().is_some_and(Quantity::is_zero) {
            let path = format!("spec.volumes[{index}].emptyDir.sizeLimit");
            findings.push(Finding::new(
                path,
                "is nothing, so that no byte would fit",
                "leave it out for no limit",
            ));
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        self::container(
            &mut findings,
            &format!("spec.containers[{index}]"),
            container,
            &spec.volumes,
        );
    }
    if spec.host_network && spec.hostname.is_some() {
        let message = "a pod with hostNetwork has the node's host name";
        findings.push(Finding::new("spec.hostname", message, "remove it, or remove hostNetwork"));
    }
    findings
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

fn container(findings: &mut Vec<Finding>, path: &str, container: &Container, volumes: &[Volume]) {
    let names: Vec<_> = container.env.iter().map(|variable| &variable.name).collect();
    duplicates_by(findings, &names, |index| format!("{path}.env[{index}].name"));
    for (field, words) in [("command", &container.command), ("args", &container.args)] {
        for (index, _) in words.iter().enumerate().filter(|(_, word)| word.contains('\0')) {
            findings.push(Finding::new(
                format!("{path}.{field}[{index}]"),
                "holds a zero byte",
                "remove it",
            ));
        }
    }
    for (index, variable) in
        container.env.iter().enumerate().filter(|(_, variable)| variable.value.contains('\0'))
    {
        let message = format!("the value of \"{}\" holds a zero byte", variable.name);
        findings.push(Finding::new(format!("{path}.env[{index}].value"), message, "remove it"));
    }
    mounts(findings, path, container, volumes);
    resources(findings, path, container);
    security(findings, path, container);
}

fn mounts(findings: &mut Vec<Finding>, path: &str, container: &Container, volumes: &[Volume]) {
    let plain = |path: &str| {
        format!(
            "/{}",
            path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
        )
    };
    let paths: Vec<_> =
        container.volume_mounts.iter().map(|mount| plain(&mount.mount_path)).collect();
    duplicates_by(findings, &paths, |index| format!("{path}.volumeMounts[{index}].mountPath"));
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let names = || volumes.iter().map(|volume| volume.name.as_str());
        if !names().any(|name| name == mount.name) {
            let hint = match similar(&mount.name, names()) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => "add it to spec.volumes".to_owned(),
            };
            let message = format!("the pod has no volume \"{}\"", mount.name);
            findings.push(Finding::new(
                format!("{path}.volumeMounts[{index}].name"),
                message,
                hint,
            ));
        }
        let target = plain(&mount.mount_path);
        // Below /dev is fine: /dev/shm is often given a volume.
        let system = ["/proc", "/sys"]
            .into_iter()
            .any(|taken| target == taken || target.starts_with(&format!("{taken}/")));
        if target == "/" || target == "/dev" || system {
            let message = format!("a volume cannot be mounted on \"{}\"", mount.mount_path);
            findings.push(Finding::new(
                format!("{path}.volumeMounts[{index}].mountPath"),
                message,
                "use a directory like \"/data\"",
            ));
        }
    }
}

fn resources(findings: &mut Vec<Finding>, path: &str, container: &Container) {
    let resources = &container.resources;
    let (limits, requests) = (&resources.limits, &resources.requests);
    for (field, limit, request) in
        [("cpu", &limits.cpu, &requests.cpu), ("memory", &limits.memory, &requests.memory)]
    {
        for (list, amount) in [("limits", limit), ("requests", request)] {
            let Some(amount) = amount else { continue };
            let at = format!("{path}.resources.{list}.{field}");
            if amount.is_zero() && list == "limits" {
                findings.push(Finding::new(
                    at,
                    "a limit of nothing lets nothing run",
                    "leave it out for no limit",
                ));
            } else if field == "memory" && !amount.is_whole() {
                let hint = memory_hint(amount);
                findings.push(Finding::new(
                    at,
                    format!("\"{amount}\" is not a whole number of bytes"),
                    hint,
                ));
            } else if field == "cpu" && !amount.is_whole_in_thousandths() {
                let message = format!("\"{amount}\" is finer than a thousandth of a CPU");
                findings.push(Finding::new(at, message, format!("write \"{}m\"", amount.millis())));
            }
        }
        if let (Some(limit), Some(request)) = (limit, request)
            && request > limit
        {
            let message = format!("\"{request}\" is more than the limit \"{limit}\"");
            let hint = "write a request of at most the limit";
            findings.push(Finding::new(
                format!("{path}.resources.requests.{field}"),
                message,
                hint,
            ));
        }
    }
}

/// `m` for memory is a thousandth of a byte, and nearly always meant as a mebibyte.
fn memory_hint(amount: &Quantity) -> String {
    match amount.as_str().strip_suffix('m') {
        Some(number) => format!("did you mean \"{number}Mi\"?"),
        None => "write a whole number, or one with a suffix like \"64Mi\"".to_owned(),
    }
}

/// Upstream's rules: a container that already has every right cannot be kept from gaining rights.
fn security(findings: &mut Vec<Finding>, path: &str, container: &Container) {
    let security = &container.security_context;
    let all = |list: &[String]| list.iter().any(|name| name == "ALL" || name == "SYS_ADMIN");
    if security.allow_privilege_escalation == Some(false)
        && (security.privileged || all(&security.capabilities.add))
    {
        let why = if security.privileged { "\"privileged\"" } else { "the capability SYS_ADMIN" };
        let message = format!("{why} gives every right already");
        let hint = "remove it, or remove allowPrivilegeEscalation";
        findings.push(Finding::new(
            format!("{path}.securityContext.allowPrivilegeEscalation"),
            message,
            hint,
        ));
    }
    for (field, list) in
        [("add", &security.capabilities.add), ("drop", &security.capabilities.drop)]
    {
        duplicates_by(findings, list, |index| {
            format!("{path}.securityContext.capabilities.{field}[{index}]")
        });
    }
}
