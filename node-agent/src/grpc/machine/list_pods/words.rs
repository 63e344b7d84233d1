//! What a pod was asked to be, in the words of `kubectl describe`. Of a secret, only its name is ever told.

use ingot_machine_config::v1::pod::{
    Container, ContainerPort, EnvVar, ExecAction, GrpcAction, HttpGetAction, Probe, Protocol,
    ResourceList, Scheme, TcpSocketAction, Volume, VolumeMount,
};
use std::collections::HashMap;

/// What is behind a volume.
pub(super) fn volume(volume: &Volume) -> String {
    if let Some(empty) = &volume.empty_dir {
        let medium = match empty.medium {
            ingot_machine_config::v1::pod::Medium::Disk => "emptyDir",
            ingot_machine_config::v1::pod::Medium::Memory => "emptyDir in memory",
        };
        let limit = empty.size_limit.as_ref().map(|limit| format!(", at most {limit}"));
        return format!("{medium}{}", limit.unwrap_or_default());
    }
    if let Some(host) = &volume.host_path {
        return format!("hostPath {}", host.path);
    }
    if let Some(map) = &volume.config_map {
        return format!("configMap {}", map.name);
    }
    if let Some(secret) = &volume.secret {
        return format!("secret {}", secret.secret_name);
    }
    if let Some(image) = &volume.image {
        return format!("image {}", image.reference);
    }
    if volume.downward_api.is_some() { "downwardAPI" } else { "projected" }.to_owned()
}

/// Amounts as they were written.
pub(super) fn resources(list: &ResourceList) -> HashMap<String, String> {
    let all = [
        ("cpu", &list.cpu),
        ("memory", &list.memory),
        ("ephemeral-storage", &list.ephemeral_storage),
        ("hugepages-2Mi", &list.hugepages_2mi),
        ("hugepages-1Gi", &list.hugepages_1gi),
    ];
    let given = all.into_iter().filter_map(|(name, amount)| Some((name, amount.as_ref()?)));
    given.map(|(name, amount)| (name.to_owned(), amount.to_string())).collect()
}

/// "Liveness: http-get http://:8080/healthz delay=0s timeout=1s period=10s #success=1 #failure=3".
pub(super) fn probes(container: &Container) -> Vec<String> {
    let all = [
        ("Liveness", &container.liveness_probe),
        ("Readiness", &container.readiness_probe),
        ("Startup", &container.startup_probe),
    ];
    all.into_iter()
        .filter_map(|(name, probe)| Some(format!("{name}: {}", self::probe(probe.as_ref()?))))
        .collect()
}

fn probe(probe: &Probe) -> String {
    let Probe { exec, http_get, tcp_socket, grpc, .. } = probe;
    let question = match (exec, http_get, tcp_socket, grpc) {
        (Some(ExecAction { command }), ..) => format!("exec {command:?}"),
        (_, Some(HttpGetAction { path, port, host, scheme, .. }), ..) => {
            let scheme = match scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            };
            let host = host.as_deref().unwrap_or_default();
            format!("http-get {scheme}://{host}:{port}/{}", path.trim_start_matches('/'))
        }
        (_, _, Some(TcpSocketAction { port, host }), _) => {
            format!("tcp-socket {}:{port}", host.as_deref().unwrap_or_default())
        }
        (_, _, _, Some(GrpcAction { port, service })) => {
            format!("grpc :{port} {}", service.as_deref().unwrap_or_default())
        }
        _ => String::new(),
    };
    format!(
        "{} delay={}s timeout={}s period={}s #success={} #failure={}",
        question.trim(),
        probe.initial_delay_seconds,
        probe.timeout_seconds,
        probe.period_seconds,
        probe.success_threshold,
        probe.failure_threshold
    )
}

/// "http 8080/TCP, port 80 of the node".
pub(super) fn port(port: &ContainerPort) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    let name = port.name.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
    let host = port.host_port.map(|host| format!(", port {host} of the node")).unwrap_or_default();
    format!("{name}{}/{protocol}{host}", port.container_port)
}

/// "/data from data (rw)".
pub(super) fn mount(mount: &VolumeMount) -> String {
    let access = if mount.read_only { "ro" } else { "rw" };
    let path = mount.sub_path.as_ref().or(mount.sub_path_expr.as_ref());
    let path = path.map(|path| format!(",path={path:?}")).unwrap_or_default();
    format!("{} from {} ({access}{path})", mount.mount_path, mount.name)
}

/// Variables; of those that come from elsewhere, from where.
pub(super) fn environment(container: &Container) -> Vec<String> {
    let mut all = Vec::new();
    for from in &container.env_from {
        let map = from.config_map_ref.as_ref().map(|r| format!("ConfigMap {}", r.name));
        let secret = from.secret_ref.as_ref().map(|r| format!("Secret {}", r.name));
        for source in map.into_iter().chain(secret) {
            all.push(format!("{}* from {source}", from.prefix));
        }
    }
    all.extend(container.env.iter().map(variable));
    all
}

fn variable(variable: &EnvVar) -> String {
    let name = &variable.name;
    let Some(from) = &variable.value_from else { return format!("{name}={}", variable.value) };
    let source = if let Some(field) = &from.field_ref {
        field.field_path.clone()
    } else if let Some(key) = &from.config_map_key_ref {
        format!("key {} of ConfigMap {}", key.key, key.name)
    } else if let Some(key) = &from.secret_key_ref {
        format!("key {} of Secret {}", key.key, key.name)
    } else {
        "a limit or request".to_owned()
    };
    format!("{name} from {source}")
}
