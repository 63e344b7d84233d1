//! From the pod documents of the machine config to what the engine carries out.

use ingot_machine_config::v1::pod as config;

use crate::pod::{
    Container, Pod, Resources, RestartPolicy, Security, Source, Volume, VolumeKind, VolumeMount,
};

impl Pod {
    /// The pod of a checked config document. `pids_limit_default` is the machine's `pods.pidsLimit`.
    #[must_use]
    pub fn from_config(pod: &config::Pod, pids_limit_default: u32) -> Self {
        let spec = &pod.spec;
        Self {
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.uid(),
            labels: pod.metadata.labels.clone(),
            source: Source::Config,
            hostname: spec.hostname.clone().unwrap_or_default(),
            host_network: spec.host_network,
            restart_policy: match spec.restart_policy {
                config::RestartPolicy::Always => RestartPolicy::Always,
                config::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
                config::RestartPolicy::Never => RestartPolicy::Never,
            },
            termination_grace_seconds: spec.termination_grace_period_seconds,
            pids_limit: Some(pod.pids_limit(pids_limit_default).into()),
            init_containers: Vec::new(),
            containers: spec.containers.iter().map(container).collect(),
            volumes: spec.volumes.iter().map(volume).collect(),
        }
    }
}

fn container(container: &config::Container) -> Container {
    let security = &container.security_context;
    Container {
        name: container.name.clone(),
        image: container.image.clone(),
        command: container.command.clone(),
        args: container.args.clone(),
        env: container.env.iter().map(|e| (e.name.clone(), e.value.clone())).collect(),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        resources: resources(&container.resources),
        mounts: container
            .volume_mounts
            .iter()
            .map(|mount| VolumeMount {
                volume: mount.name.clone(),
                path: mount.mount_path.clone(),
                read_only: mount.read_only,
                sub_path: String::new(),
            })
            .collect(),
        security: Security {
            run_as_user: security.run_as_user,
            run_as_group: security.run_as_group,
            read_only_root: security.read_only_root_filesystem,
            privileged: security.privileged,
            capabilities_add: security.capabilities.add.clone(),
            capabilities_drop: security.capabilities.drop.clone(),
            allow_privilege_escalation: security.allow_privilege_escalation.unwrap_or(true),
        },
    }
}

/// What is not requested is requested at its limit, as the API server does it.
fn resources(resources: &config::Resources) -> Resources {
    let (limits, requests) = (&resources.limits, &resources.requests);
    let cpu_limit_millis = limits.cpu.as_ref().map(|q| q.millis());
    let memory_limit_bytes = limits.memory.as_ref().map(|q| q.units());
    Resources {
        cpu_limit_millis,
        cpu_request_millis: requests.cpu.as_ref().map(|q| q.millis()).or(cpu_limit_millis),
        memory_limit_bytes,
        memory_request_bytes: requests.memory.as_ref().map(|q| q.units()).or(memory_limit_bytes),
    }
}

fn volume(volume: &config::Volume) -> Volume {
    let empty_dir = volume.empty_dir.clone().unwrap_or_default();
    let size_limit_bytes = empty_dir.size_limit.as_ref().map(|q| q.units());
    Volume {
        name: volume.name.clone(),
        kind: match empty_dir.medium {
            config::Medium::Disk => VolumeKind::EmptyDir { size_limit_bytes },
            config::Medium::Memory => VolumeKind::EmptyDirMemory { size_limit_bytes },
        },
    }
}
