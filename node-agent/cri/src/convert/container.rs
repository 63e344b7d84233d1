//! Containers.

use ingot_runtime::config::{
    ContainerConfig, Device, Mount, MountSource, NamespaceMode, NamespaceOptions, Propagation,
    Resources, SandboxConfig, UserNamespace,
};

use super::resources::resources;
use super::security::{container_security, range, user_namespace};
use super::signal;
use crate::check::{Checked, Invalid, absolute, inside, known, required, text};
use crate::v1;

/// Mounts and devices of one container at most; Kubernetes has no bound, a request has 16 MiB.
const MOUNTS_MAX: usize = 4096;

/// A container that a caller describes, for this sandbox.
pub(crate) fn container(
    from: v1::ContainerConfig,
    sandbox: &SandboxConfig,
) -> Checked<ContainerConfig> {
    let metadata =
        from.metadata.ok_or_else(|| Invalid::new("config.metadata", "has to be given"))?;
    let image = from.image.ok_or_else(|| Invalid::new("config.image", "has to be given"))?;
    let stop_signal = known::<v1::Signal>("config.stop_signal", from.stop_signal)?;
    let linux = from.linux.unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let namespaces = namespaces(context.namespace_options.clone(), sandbox)?;
    let own_users = sandbox.namespaces.user.is_some();
    let security = container_security("config.linux.security_context", context, own_users)?;
    if security.privileged && !sandbox.security.privileged {
        let problem = "the sandbox was not made for privileged containers; make it so first";
        return Err(Invalid::new("config.linux.security_context.privileged", problem));
    }
    let limits = match linux.resources {
        Some(given) => resources("config.linux.resources", given)?,
        None => Resources::default(),
    };
    if from.mounts.len().max(from.devices.len()) > MOUNTS_MAX {
        return Err(Invalid::new("config.mounts", format!("are more than {MOUNTS_MAX}")));
    }
    let mounts = from.mounts.into_iter().map(|from| mount(from, security.privileged));
    Ok(ContainerConfig {
        name: required("config.metadata.name", metadata.name)?,
        attempt: metadata.attempt,
        image: required("config.image.image", image.image)?,
        user_image: text("config.image.user_specified_image", image.user_specified_image)?,
        command: words("config.command", from.command)?,
        args: words("config.args", from.args)?,
        working_dir: text("config.working_dir", from.working_dir)?,
        env: from.envs.into_iter().map(variable).collect::<Checked<_>>()?,
        mounts: mounts.collect::<Checked<_>>()?,
        devices: from.devices.into_iter().map(device).collect::<Checked<_>>()?,
        cdi_devices: from.cdi_devices.into_iter().map(cdi_device).collect::<Checked<_>>()?,
        labels: from.labels.into_iter().collect(),
        annotations: from.annotations.into_iter().collect(),
        log_path: inside("config.log_path", from.log_path)?,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        tty: from.tty,
        stop_signal: signal::to_number(stop_signal),
        resources: limits,
        security,
        namespaces,
    })
}

fn namespaces(
    from: Option<v1::NamespaceOption>,
    sandbox: &SandboxConfig,
) -> Checked<NamespaceOptions> {
    const FIELD: &str = "config.linux.security_context.namespace_options";
    let Some(from) = from else { return Ok(sandbox.namespaces.clone()) };
    let pid = match known::<v1::NamespaceMode>(FIELD, from.pid)? {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Container => NamespaceMode::Container,
        v1::NamespaceMode::Node => NamespaceMode::Node,
        v1::NamespaceMode::Target => {
            NamespaceMode::Target(required(&format!("{FIELD}.target_id"), from.target_id)?)
        }
    };
    if pid == NamespaceMode::Node && sandbox.namespaces.pid != NamespaceMode::Node {
        let problem = "the sandbox was not made for containers with the node's processes";
        return Err(Invalid::new(format!("{FIELD}.pid"), problem));
    }
    let given = from.userns_options.is_some();
    let user = user_namespace(&format!("{FIELD}.userns_options"), from.userns_options)?;
    if given && user != sandbox.namespaces.user {
        let problem = "differs from the sandbox's; all containers of a pod have the same";
        return Err(Invalid::new(format!("{FIELD}.userns_options"), problem));
    }
    Ok(NamespaceOptions { pid, ..sandbox.namespaces.clone() })
}

fn mount(from: v1::Mount, privileged: bool) -> Checked<Mount> {
    const FIELD: &str = "config.mounts";
    let target = absolute(&format!("{FIELD}.container_path"), from.container_path, true)?;
    let container_path = target.to_string_lossy().into_owned();
    let at = |name: &str| format!("{FIELD}[{container_path}].{name}");
    let propagation = match known::<v1::MountPropagation>(&at("propagation"), from.propagation)? {
        v1::MountPropagation::PropagationPrivate => Propagation::Private,
        v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    if propagation == Propagation::Bidirectional && !privileged {
        return Err(Invalid::new(at("propagation"), "BIDIRECTIONAL needs a privileged container"));
    }
    let recursive = from.recursive_read_only;
    if recursive && (!from.readonly || propagation != Propagation::Private) {
        let problem = "needs readonly, and propagation PRIVATE";
        return Err(Invalid::new(at("recursive_read_only"), problem));
    }
    let source = match from.image.filter(|image| !image.image.is_empty()) {
        Some(_) if !from.host_path.is_empty() => {
            return Err(Invalid::new(at("host_path"), "a mount has an image or a path, not both"));
        }
        Some(_) if !from.readonly => {
            return Err(Invalid::new(at("readonly"), "an image is mounted read-only; write true"));
        }
        Some(image) => MountSource::Image {
            image: text(&at("image"), image.image)?,
            sub_path: inside(&at("image_sub_path"), from.image_sub_path)?,
        },
        None => MountSource::Host(absolute(&at("host_path"), from.host_path, true)?),
    };
    let id_mapping = match (from.uid_mappings.as_slice(), from.gid_mappings.as_slice()) {
        ([], []) => None,
        (uids, gids) => Some(UserNamespace {
            uids: range(&at("uid_mappings"), uids)?,
            gids: range(&at("gid_mappings"), gids)?,
        }),
    };
    Ok(Mount {
        source,
        read_only: from.readonly,
        recursive_read_only: recursive,
        propagation,
        id_mapping,
        container_path,
    })
}

fn device(from: v1::Device) -> Checked<Device> {
    const FIELD: &str = "config.devices";
    let host_path = absolute(&format!("{FIELD}.host_path"), from.host_path, false)?;
    let container_path = if from.container_path.is_empty() {
        host_path.clone()
    } else {
        absolute(&format!("{FIELD}.container_path"), from.container_path, false)?
    };
    let given = from.permissions;
    if !given.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
        let problem = format!("{given:?} is not made of r, w and m");
        return Err(Invalid::new(format!("{FIELD}.permissions"), problem));
    }
    let permissions = if given.is_empty() { "rwm".to_owned() } else { given };
    Ok(Device { host_path, container_path, permissions })
}

/// `vendor/class=name`.
fn cdi_device(from: v1::CdiDevice) -> Checked<String> {
    let parts = from.name.split_once('=').filter(|(kind, name)| {
        !name.is_empty()
            && kind.split_once('/').is_some_and(|(v, c)| !v.is_empty() && !c.is_empty())
    });
    match parts {
        Some(_) => text("config.CDI_devices", from.name),
        None => {
            let problem = format!("{:?} is no CDI device; write vendor/class=name", from.name);
            Err(Invalid::new("config.CDI_devices", problem))
        }
    }
}

fn variable(from: v1::KeyValue) -> Checked<(String, Vec<u8>)> {
    let name = required("config.envs.key", from.key)?;
    if name.contains('=') {
        return Err(Invalid::new("config.envs.key", format!("{name:?} contains =")));
    }
    if from.value.contains(&0) {
        return Err(Invalid::new(format!("config.envs[{name}]"), "contains a NUL byte"));
    }
    Ok((name, from.value))
}

/// Arguments may be long, but not contain NUL.
fn words(field: &str, words: Vec<String>) -> Checked<Vec<String>> {
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Invalid::new(field, "contains a NUL byte"));
    }
    Ok(words)
}
