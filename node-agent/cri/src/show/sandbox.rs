//! Sandboxes.

use ingot_runtime::config::{IdMapping, NamespaceMode, NamespaceOptions, SandboxConfig};
use ingot_runtime::sandboxes::Sandbox;

use super::nanoseconds;
use crate::v1;

/// Ready, or not.
pub(crate) fn sandbox_state(sandbox: &Sandbox) -> v1::PodSandboxState {
    if sandbox.is_ready() {
        v1::PodSandboxState::SandboxReady
    } else {
        v1::PodSandboxState::SandboxNotready
    }
}

/// A line of a list.
pub(crate) fn sandbox(sandbox: &Sandbox) -> v1::PodSandbox {
    let config = &sandbox.config;
    v1::PodSandbox {
        id: sandbox.id.clone(),
        metadata: Some(metadata(config)),
        state: sandbox_state(sandbox).into(),
        created_at: nanoseconds(Some(sandbox.created_at)),
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        runtime_handler: config.runtime_handler.clone(),
    }
}

/// All there is to say.
pub(crate) fn sandbox_status(sandbox: &Sandbox) -> v1::PodSandboxStatus {
    let config = &sandbox.config;
    let mut ips = sandbox.ips.iter().map(ToString::to_string);
    let network = v1::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
    };
    let options = Some(namespaces(&config.namespaces));
    v1::PodSandboxStatus {
        id: sandbox.id.clone(),
        metadata: Some(metadata(config)),
        state: sandbox_state(sandbox).into(),
        created_at: nanoseconds(Some(sandbox.created_at)),
        network: Some(network),
        linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options }) }),
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        runtime_handler: config.runtime_handler.clone(),
    }
}

pub(crate) fn metadata(config: &SandboxConfig) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: config.name.clone(),
        uid: config.uid.clone(),
        namespace: config.namespace.clone(),
        attempt: config.attempt,
    }
}

fn namespaces(options: &NamespaceOptions) -> v1::NamespaceOption {
    let mode = |mode: &NamespaceMode| match mode {
        NamespaceMode::Pod => v1::NamespaceMode::Pod,
        NamespaceMode::Container => v1::NamespaceMode::Container,
        NamespaceMode::Node => v1::NamespaceMode::Node,
        NamespaceMode::Target(_) => v1::NamespaceMode::Target,
    };
    let range = |range: &IdMapping| v1::IdMapping {
        host_id: range.host_id,
        container_id: range.container_id,
        length: range.length,
    };
    v1::NamespaceOption {
        network: mode(&options.network).into(),
        pid: mode(&options.pid).into(),
        ipc: mode(&options.ipc).into(),
        target_id: match &options.pid {
            NamespaceMode::Target(id) => id.clone(),
            _ => String::new(),
        },
        userns_options: options.user.as_ref().map(|user| v1::UserNamespace {
            mode: v1::NamespaceMode::Pod.into(),
            uids: vec![range(&user.uids)],
            gids: vec![range(&user.gids)],
        }),
    }
}
