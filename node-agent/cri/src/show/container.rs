//! Containers.

use ingot_runtime::config::{IdMapping, Mount, MountSource, Propagation, Resources};
use ingot_runtime::sandboxes::{Container, ContainerPhase};

use super::nanoseconds;
use crate::convert;
use crate::v1;

/// How far it has come.
pub(crate) fn container_state(container: &Container) -> v1::ContainerState {
    match container.phase {
        ContainerPhase::Creating | ContainerPhase::Created(_) => {
            v1::ContainerState::ContainerCreated
        }
        ContainerPhase::Running(_) => v1::ContainerState::ContainerRunning,
        ContainerPhase::Exited => v1::ContainerState::ContainerExited,
    }
}

/// A line of a list.
pub(crate) fn container(container: &Container) -> v1::Container {
    let config = &container.config;
    v1::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.sandbox_id.clone(),
        metadata: Some(metadata(container)),
        image: Some(image(container)),
        image_ref: container.image.reference.clone(),
        image_id: container.image.id.clone(),
        state: container_state(container).into(),
        created_at: nanoseconds(Some(container.created_at)),
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
    }
}

/// All there is to say.
pub(crate) fn container_status(container: &Container) -> v1::ContainerStatus {
    let config = &container.config;
    let exit = container.exit.as_ref();
    let log_path = container.log_path.as_ref().map(|path| path.to_string_lossy().into_owned());
    v1::ContainerStatus {
        id: container.id.clone(),
        metadata: Some(metadata(container)),
        state: container_state(container).into(),
        created_at: nanoseconds(Some(container.created_at)),
        started_at: nanoseconds(container.started_at),
        finished_at: nanoseconds(exit.map(|exit| exit.finished_at)),
        exit_code: exit.map_or(0, |exit| exit.code),
        image: Some(image(container)),
        image_ref: container.image.reference.clone(),
        image_id: container.image.id.clone(),
        reason: exit.map(|exit| exit.reason.clone()).unwrap_or_default(),
        message: exit.map(|exit| exit.message.clone()).unwrap_or_default(),
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        mounts: config.mounts.iter().map(|of| mount(container, of)).collect(),
        log_path: log_path.unwrap_or_default(),
        resources: Some(v1::ContainerResources {
            linux: Some(resources(&container.resources)),
            windows: None,
        }),
        user: container.user.as_ref().map(|user| v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: user.uid.into(),
                gid: user.gid.into(),
                supplemental_groups: user.groups.iter().map(|group| i64::from(*group)).collect(),
            }),
        }),
        stop_signal: convert::signal_from_number(container.stop_signal).into(),
    }
}

pub(crate) fn metadata(container: &Container) -> v1::ContainerMetadata {
    let config = &container.config;
    v1::ContainerMetadata { name: config.name.clone(), attempt: config.attempt }
}

fn image(container: &Container) -> v1::ImageSpec {
    v1::ImageSpec {
        image: container.image.name.clone(),
        user_specified_image: container.config.user_image.clone(),
        ..v1::ImageSpec::default()
    }
}

/// Limits as they were given: what was not given is 0 or empty.
pub(crate) fn resources(limits: &Resources) -> v1::LinuxContainerResources {
    let number = |value: Option<u64>| value.map_or(0, |v| i64::try_from(v).unwrap_or(i64::MAX));
    let hugepages = limits.hugepage_limits.iter();
    v1::LinuxContainerResources {
        cpu_period: number(limits.cpu_period_us),
        cpu_quota: limits.cpu_quota_us.unwrap_or(0),
        cpu_shares: number(limits.cpu_shares),
        memory_limit_in_bytes: number(limits.memory_limit_bytes),
        oom_score_adj: limits.oom_score_adj.unwrap_or(0).into(),
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        hugepage_limits: hugepages
            .map(|(size, limit)| v1::HugepageLimit { page_size: size.clone(), limit: *limit })
            .collect(),
        unified: limits.unified.clone().into_iter().collect(),
        memory_swap_limit_in_bytes: limits.memory_swap_limit_bytes.unwrap_or(0),
    }
}

fn mount(container: &Container, mount: &Mount) -> v1::Mount {
    let range = |range: IdMapping| v1::IdMapping {
        host_id: range.host_id,
        container_id: range.container_id,
        length: range.length,
    };
    let (host_path, image, image_sub_path) = match &mount.source {
        MountSource::Host(path) => (path.to_string_lossy().into_owned(), None, String::new()),
        MountSource::Image { image, sub_path } => {
            let used = container.mounted.get(image);
            let image = v1::ImageSpec {
                image: image.clone(),
                image_ref: used.map(|used| used.reference.clone()).unwrap_or_default(),
                ..v1::ImageSpec::default()
            };
            (String::new(), Some(image), sub_path.clone())
        }
        // Only the node's own pods have such mounts.
        _ => (String::new(), None, String::new()),
    };
    let propagation = match mount.propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    v1::Mount {
        container_path: mount.container_path.clone(),
        host_path,
        readonly: mount.read_only,
        selinux_relabel: false,
        propagation: propagation.into(),
        uid_mappings: mount.id_mapping.iter().map(|mapping| range(mapping.uids)).collect(),
        gid_mappings: mount.id_mapping.iter().map(|mapping| range(mapping.gids)).collect(),
        recursive_read_only: mount.recursive_read_only,
        image,
        image_sub_path,
    }
}
