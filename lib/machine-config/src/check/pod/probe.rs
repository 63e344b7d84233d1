//! Probes and hooks of a container.

use super::{Finding, exactly_one};
use crate::v1::pod::{Container, ExecAction, Hook, HttpGetAction, Probe, TcpSocketAction};
use crate::validate::similar;

pub(super) fn check(findings: &mut Vec<Finding>, path: &str, container: &Container, init: bool) {
    let sidecar = container.restart_policy.is_some();
    if !init && sidecar {
        let message = "only an init container can be a sidecar";
        let hint = "remove it, or move the container to initContainers";
        findings.push(Finding::new(format!("{path}.restartPolicy"), message, hint));
    }
    let probes = [
        ("startupProbe", &container.startup_probe),
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
    ];
    for (field, probe) in probes {
        let Some(probe) = probe else { continue };
        let at = format!("{path}.{field}");
        if init && !sidecar {
            findings.push(only_for_sidecars(at));
            continue;
        }
        self::probe(findings, &at, field == "readinessProbe", probe, container);
    }
    for (field, hook) in
        [("postStart", &container.lifecycle.post_start), ("preStop", &container.lifecycle.pre_stop)]
    {
        let Some(hook) = hook else { continue };
        let at = format!("{path}.lifecycle.{field}");
        if init && !sidecar {
            findings.push(only_for_sidecars(at));
            continue;
        }
        self::hook(findings, &at, hook, container);
    }
}

fn only_for_sidecars(path: String) -> Finding {
    let message = "an init container runs to its end";
    Finding::new(
        path,
        message,
        "remove it, or make the container a sidecar with \"restartPolicy: Always\"",
    )
}

fn probe(
    findings: &mut Vec<Finding>,
    path: &str,
    readiness: bool,
    probe: &Probe,
    container: &Container,
) {
    let given = [
        ("exec", probe.exec.is_some()),
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
        ("grpc", probe.grpc.is_some()),
    ];
    exactly_one(findings, path, "question", &given);
    actions(findings, path, &probe.exec, &probe.http_get, &probe.tcp_socket, container);
    if !readiness && probe.success_threshold != 1 {
        let message = format!("is {}, but must be 1 here", probe.success_threshold);
        findings.push(Finding::new(format!("{path}.successThreshold"), message, "remove it"));
    }
    if readiness && probe.termination_grace_period_seconds.is_some() {
        let message = "nothing is ended when a readiness probe fails";
        findings.push(Finding::new(
            format!("{path}.terminationGracePeriodSeconds"),
            message,
            "remove it",
        ));
    }
}

fn hook(findings: &mut Vec<Finding>, path: &str, hook: &Hook, container: &Container) {
    let given = [
        ("exec", hook.exec.is_some()),
        ("httpGet", hook.http_get.is_some()),
        ("tcpSocket", hook.tcp_socket.is_some()),
        ("sleep", hook.sleep.is_some()),
    ];
    exactly_one(findings, path, "action", &given);
    actions(findings, path, &hook.exec, &hook.http_get, &hook.tcp_socket, container);
}

fn actions(
    findings: &mut Vec<Finding>,
    path: &str,
    exec: &Option<ExecAction>,
    http: &Option<HttpGetAction>,
    tcp: &Option<TcpSocketAction>,
    container: &Container,
) {
    for (index, _) in
        exec.iter().flat_map(|e| &e.command).enumerate().filter(|(_, word)| word.contains('\0'))
    {
        let at = format!("{path}.exec.command[{index}]");
        findings.push(Finding::new(at, "holds a zero byte", "remove it"));
    }
    if let Some(http) = http {
        let at = format!("{path}.httpGet");
        port(findings, &format!("{at}.port"), &http.port, container);
        if http.path.chars().any(|c| !c.is_ascii_graphic()) {
            let hint = "write other characters as %XX";
            findings.push(Finding::new(format!("{at}.path"), "is not the path of a URL", hint));
        }
    }
    if let Some(tcp) = tcp {
        port(findings, &format!("{path}.tcpSocket.port"), &tcp.port, container);
    }
}

/// A port by name must be one of the container's.
fn port(findings: &mut Vec<Finding>, path: &str, port: &str, container: &Container) {
    let names = || container.ports.iter().filter_map(|port| port.name.as_deref());
    if container.port_number(port).is_some() {
        return;
    }
    let hint = match similar(port, names()) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => "write the number, or give the name to one of the container's ports".to_owned(),
    };
    findings.push(Finding::new(path, format!("the container has no port \"{port}\""), hint));
}
