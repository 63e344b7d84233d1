//! From a pod of the node's own to what the lower layer carries out. Pure, but for the folders of its volumes.

use std::path::{Path, PathBuf};

use crate::config::{
    ContainerConfig, Mount, MountSource, NamespaceMode, NamespaceOptions, Resources, SandboxConfig,
    Security, SecurityProfile,
};
use crate::pod::{self, Container, Pod, VolumeKind};

/// Enforcement period of `cpu.max` in microseconds: the kernel's and Kubernetes' default.
const CPU_PERIOD_USEC: u64 = 100_000;

/// The kernel refuses a smaller quota.
const CPU_QUOTA_USEC_MIN: u64 = 1_000;

/// What cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pod has no volume {volume:?}")]
pub(crate) struct NoVolume {
    volume: String,
}

/// The sandbox of a pod. `logs` is the folder above the log folders of all pods.
pub(crate) fn sandbox(pod: &Pod, logs: &Path) -> SandboxConfig {
    let memory_volumes = pod.volumes.iter().filter_map(|volume| match volume.kind {
        VolumeKind::EmptyDirMemory { size_limit_bytes } => {
            Some((volume.name.clone(), size_limit_bytes))
        }
        _ => None,
    });
    SandboxConfig {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        uid: pod.uid.clone(),
        hostname: hostname(pod).to_owned(),
        log_directory: Some(logs.join(&pod.uid)),
        labels: pod.labels.clone(),
        namespaces: namespaces(pod),
        resources: pod_resources(pod),
        memory_volumes: memory_volumes.collect(),
        ..SandboxConfig::default()
    }
}

fn namespaces(pod: &Pod) -> NamespaceOptions {
    let network = if pod.host_network { NamespaceMode::Node } else { NamespaceMode::Pod };
    NamespaceOptions { network, pid: NamespaceMode::Container, ..NamespaceOptions::default() }
}

/// Name of the pod inside: its own, at most 63 bytes as the kernel and DNS allow; the node's with the node's network.
fn hostname(pod: &Pod) -> &str {
    let name = match (pod.hostname.is_empty(), pod.host_network) {
        (false, _) => &pod.hostname,
        (true, true) => return "",
        (true, false) => &pod.name,
    };
    name.get(..63).unwrap_or(name).trim_end_matches(['-', '.'])
}

/// A container of a pod. `volumes` is the folder of the pod's volumes on disk.
pub(crate) fn container(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    volumes: &Path,
    node_memory_bytes: u64,
) -> Result<ContainerConfig, NoVolume> {
    let mut env: Vec<(String, String)> = Vec::new();
    for (name, value) in &container.env {
        let value = expand(value, &env);
        env.retain(|(n, _)| n != name);
        env.push((name.clone(), value));
    }
    let expanded = |words: &[String]| words.iter().map(|word| expand(word, &env)).collect();
    let mounts = container.mounts.iter().map(|mount| mounted(pod, mount, volumes));
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt,
        image: container.image.clone(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone(),
        mounts: mounts.collect::<Result<_, _>>()?,
        log_path: format!("{}/{attempt}.log", container.name),
        resources: resources(&container.resources, pod.pids_limit, node_memory_bytes),
        security: security(&container.security),
        namespaces: namespaces(pod),
        env: env.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
        ..ContainerConfig::default()
    })
}

fn mounted(pod: &Pod, mount: &pod::VolumeMount, volumes: &Path) -> Result<Mount, NoVolume> {
    let volume = pod.volumes.iter().find(|volume| volume.name == mount.volume);
    let volume = volume.ok_or_else(|| NoVolume { volume: mount.volume.clone() })?;
    let sub_path = mount.sub_path.clone();
    let source = match &volume.kind {
        VolumeKind::EmptyDir { .. } => {
            MountSource::Inside { root: volumes.join(&volume.name), sub_path }
        }
        VolumeKind::EmptyDirMemory { .. } => {
            MountSource::Memory { name: volume.name.clone(), sub_path }
        }
        VolumeKind::HostPath { path } if sub_path.is_empty() => MountSource::Host(path.into()),
        VolumeKind::HostPath { path } => MountSource::Inside { root: path.into(), sub_path },
    };
    Ok(Mount {
        container_path: mount.path.clone(),
        source,
        read_only: mount.read_only,
        ..Mount::default()
    })
}

fn security(security: &pod::Security) -> Security {
    Security {
        privileged: security.privileged,
        run_as_user: security.run_as_user,
        run_as_group: security.run_as_group,
        read_only_root: security.read_only_root,
        capabilities_add: security.capabilities_add.clone(),
        capabilities_drop: security.capabilities_drop.clone(),
        seccomp: SecurityProfile::RuntimeDefault,
        no_new_privileges: !security.allow_privilege_escalation && !security.privileged,
        ..Security::default()
    }
}

/// Limits of one container.
fn resources(
    resources: &pod::Resources,
    pids_limit: Option<u64>,
    node_memory_bytes: u64,
) -> Resources {
    let mut limits = common(resources);
    limits.pids_limit = pids_limit;
    limits.oom_score_adj = Some(oom_score_adj(resources, node_memory_bytes));
    // The container dies as a whole: half a container is worse than none.
    limits.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    limits
}

fn common(resources: &pod::Resources) -> Resources {
    let quota = |millis: u64| {
        let quota = millis.saturating_mul(CPU_PERIOD_USEC / 1000).max(CPU_QUOTA_USEC_MIN);
        i64::try_from(quota).unwrap_or(i64::MAX)
    };
    // Without a request a pod gets the least, as best-effort pods do.
    let shares = resources.cpu_request_millis.unwrap_or(0).saturating_mul(1024) / 1000;
    Resources {
        cpu_quota_us: resources.cpu_limit_millis.map(quota),
        cpu_period_us: resources.cpu_limit_millis.map(|_| CPU_PERIOD_USEC),
        cpu_shares: Some(shares.clamp(2, 262_144)),
        memory_limit_bytes: resources.memory_limit_bytes,
        memory_low_bytes: resources.memory_request_bytes,
        ..Resources::default()
    }
}

/// Limits of a pod: sums, where every container has the number.
fn pod_resources(pod: &Pod) -> Resources {
    let sum = |field: fn(&pod::Resources) -> Option<u64>| {
        let fields = pod.containers.iter().map(|c| field(&c.resources));
        fields.reduce(|a, b| Some(a?.saturating_add(b?))).flatten()
    };
    // An init container runs alone, so it must fit: the larger of the two.
    let widest = |field: fn(&pod::Resources) -> Option<u64>| {
        let largest = |sum: u64| {
            let init = pod.init_containers.iter().map(|c| field(&c.resources));
            init.chain([Some(sum)]).reduce(|a, b| Some(a?.max(b?))).flatten()
        };
        sum(field).and_then(largest)
    };
    let some = |field: fn(&pod::Resources) -> Option<u64>| {
        let total: u64 = pod.containers.iter().filter_map(|c| field(&c.resources)).sum();
        (total > 0).then_some(total)
    };
    let total = pod::Resources {
        cpu_limit_millis: widest(|r| r.cpu_limit_millis),
        memory_limit_bytes: widest(|r| r.memory_limit_bytes),
        cpu_request_millis: some(|r| r.cpu_request_millis),
        memory_request_bytes: some(|r| r.memory_request_bytes),
    };
    Resources { pids_limit: pod.pids_limit, ..common(&total) }
}

/// Who goes first when the node, not a container, is out of memory: the kubelet's three classes. A container that asked
/// for nothing goes first, one whose limits are all requested goes last, between them those that asked for less.
fn oom_score_adj(resources: &pod::Resources, node_memory_bytes: u64) -> i32 {
    let pod::Resources {
        cpu_limit_millis,
        cpu_request_millis,
        memory_limit_bytes,
        memory_request_bytes,
    } = *resources;
    let guaranteed = cpu_limit_millis.is_some()
        && memory_limit_bytes.is_some()
        && cpu_request_millis == cpu_limit_millis
        && memory_request_bytes == memory_limit_bytes;
    if guaranteed {
        return -997;
    }
    if cpu_request_millis.is_none() && memory_request_bytes.is_none() {
        return 1000;
    }
    let share = u128::from(memory_request_bytes.unwrap_or(0)) * 1000;
    let permille = share.checked_div(node_memory_bytes.into()).unwrap_or(0);
    1000_i32.saturating_sub(i32::try_from(permille).unwrap_or(1000)).clamp(3, 999)
}

/// Replaces `$(NAME)` by the variable's value, `$$` by `$`; an unknown name stays as it is. Kubernetes' rule.
fn expand(text: &str, environment: &[(String, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let known = after.strip_prefix('(').and_then(|reference| {
            let (name, end) = reference.split_once(')')?;
            let (_, value) = environment.iter().find(|(n, _)| n == name)?;
            Some((value, end))
        });
        if let Some((value, end)) = known {
            result.push_str(value);
            rest = end;
        } else {
            result.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    result.push_str(rest);
    result
}

/// Makes the folders of the volumes on disk, in `volumes`. A volume belongs to whoever runs in the pod, so everybody may
/// write, as in Kubernetes.
pub(crate) fn make_volumes(pod: &Pod, volumes: &Path) -> Result<(), (PathBuf, std::io::Error)> {
    use std::os::unix::fs::PermissionsExt as _;
    let on_disk = pod.volumes.iter().filter(|v| matches!(v.kind, VolumeKind::EmptyDir { .. }));
    for volume in on_disk {
        let path = volumes.join(&volume.name);
        std::fs::create_dir_all(&path)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)))
            .map_err(|source| (path, source))?;
    }
    Ok(())
}

/// Memory of the node; 0 when /proc does not say.
pub(crate) fn node_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests;
