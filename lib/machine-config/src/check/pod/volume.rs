//! Volumes, and how containers mount them.

use super::container::{field, resource};
use super::{Finding, duplicates_by, exactly_one};
use crate::quantity::Quantity;
use crate::v1::pod::{
    Container, DownwardFile, HostPath, KeyToPath, MountPropagation, PodSpec, RecursiveReadOnly,
    Volume, VolumeMount,
};
use crate::validate::similar;

pub(super) fn check(findings: &mut Vec<Finding>, spec: &PodSpec) {
    let names: Vec<_> = spec.volumes.iter().map(|volume| &volume.name).collect();
    duplicates_by(findings, &names, |index| format!("spec.volumes[{index}].name"));
    for (index, volume) in spec.volumes.iter().enumerate() {
        let path = format!("spec.volumes[{index}]");
        source(findings, &path, volume, spec);
    }
}

fn source(findings: &mut Vec<Finding>, path: &str, volume: &Volume, spec: &PodSpec) {
    let given = [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("secret", volume.secret.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("projected", volume.projected.is_some()),
        ("image", volume.image.is_some()),
    ];
    exactly_one(findings, path, "source", &given);
    let limit = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit.as_ref());
    if limit.is_some_and(Quantity::is_zero) {
        let hint = "leave it out for no limit";
        let path = format!("{path}.emptyDir.sizeLimit");
        findings.push(Finding::new(path, "is nothing, so that no byte would fit", hint));
    }
    if let Some(host) = &volume.host_path {
        let mounts = |container: &&Container| {
            container.volume_mounts.iter().any(|mount| mount.name == volume.name)
        };
        let mut users = spec.init_containers.iter().chain(&spec.containers).filter(mounts);
        let privileged = users.all(|container| container.security_context.privileged);
        host_path(findings, &format!("{path}.hostPath.path"), &host.path, privileged);
    }
    if let Some(map) = &volume.config_map {
        items(findings, &format!("{path}.configMap"), &map.items);
    }
    if let Some(secret) = &volume.secret {
        items(findings, &format!("{path}.secret"), &secret.items);
    }
    if let Some(downward) = &volume.downward_api {
        downward_files(findings, &format!("{path}.downwardAPI"), &downward.items, spec);
    }
    for (index, source) in volume.projected.iter().flat_map(|p| &p.sources).enumerate() {
        let path = format!("{path}.projected.sources[{index}]");
        let given = [
            ("configMap", source.config_map.is_some()),
            ("secret", source.secret.is_some()),
            ("downwardAPI", source.downward_api.is_some()),
        ];
        exactly_one(findings, &path, "source", &given);
        for (field, object) in [("configMap", &source.config_map), ("secret", &source.secret)] {
            if let Some(object) = object {
                items(findings, &format!("{path}.{field}"), &object.items);
            }
        }
        if let Some(downward) = &source.downward_api {
            downward_files(findings, &format!("{path}.downwardAPI"), &downward.items, spec);
        }
    }
}

fn host_path(findings: &mut Vec<Finding>, path: &str, host: &str, privileged: bool) {
    let host = plain(host);
    if let Some(secret) = HostPath::secret_behind(&host, true) {
        let message = format!("\"{host}\" would show the pod what the node keeps in {secret}");
        findings.push(Finding::new(path, message, "use another directory, like \"/var/data\""));
    } else if let Some(sockets) = HostPath::secret_behind(&host, privileged) {
        let message =
            format!("\"{host}\" would make the pod as good as the node through {sockets}");
        let hint = "use another directory, or make every container that mounts it privileged";
        findings.push(Finding::new(path, message, hint));
    }
}

fn items(findings: &mut Vec<Finding>, path: &str, items: &[KeyToPath]) {
    let paths: Vec<_> = items.iter().map(|item| item.path.as_str()).collect();
    file_paths(findings, path, &paths);
}

fn file_paths(findings: &mut Vec<Finding>, path: &str, paths: &[&str]) {
    duplicates_by(findings, paths, |index| format!("{path}.items[{index}].path"));
    for (index, file) in paths.iter().enumerate().filter(|(_, file)| file.starts_with("..")) {
        let message = format!("\"{file}\" begins with \"..\", as the volume's own names do");
        findings.push(Finding::new(
            format!("{path}.items[{index}].path"),
            message,
            "use another name",
        ));
    }
}

fn downward_files(findings: &mut Vec<Finding>, path: &str, files: &[DownwardFile], spec: &PodSpec) {
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    file_paths(findings, path, &paths);
    for (index, file) in files.iter().enumerate() {
        let at = format!("{path}.items[{index}]");
        let given = [
            ("fieldRef", file.field_ref.is_some()),
            ("resourceFieldRef", file.resource_field_ref.is_some()),
        ];
        exactly_one(findings, &at, "source", &given);
        if let Some(reference) = &file.field_ref {
            field(findings, &format!("{at}.fieldRef.fieldPath"), reference, true);
        }
        if let Some(reference) = &file.resource_field_ref {
            let at = format!("{at}.resourceFieldRef");
            resource(findings, &at, reference, spec);
            if reference.container_name.is_none() {
                let hint = "write containerName: with the name of one of the pod's";
                findings.push(Finding::new(
                    at,
                    "has no \"containerName\", which a volume needs",
                    hint,
                ));
            }
        }
    }
}

/// Without double slashes, dots and a slash at the end.
fn plain(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    format!("/{}", parts.collect::<Vec<_>>().join("/"))
}

pub(super) fn mounts(
    findings: &mut Vec<Finding>,
    path: &str,
    container: &Container,
    volumes: &[Volume],
) {
    let paths: Vec<_> =
        container.volume_mounts.iter().map(|mount| plain(&mount.mount_path)).collect();
    duplicates_by(findings, &paths, |index| format!("{path}.volumeMounts[{index}].mountPath"));
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let at = format!("{path}.volumeMounts[{index}]");
        let names = || volumes.iter().map(|volume| volume.name.as_str());
        if !names().any(|name| name == mount.name) {
            let hint = match similar(&mount.name, names()) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => "add it to spec.volumes".to_owned(),
            };
            let message = format!("the pod has no volume \"{}\"", mount.name);
            findings.push(Finding::new(format!("{at}.name"), message, hint));
        }
        let target = plain(&mount.mount_path);
        // Below /dev is fine: /dev/shm is often given a volume.
        let system = ["/proc", "/sys"]
            .into_iter()
            .any(|taken| target == taken || target.starts_with(&format!("{taken}/")));
        if target == "/" || target == "/dev" || system {
            let message = format!("a volume cannot be mounted on \"{}\"", mount.mount_path);
            let hint = "use a directory like \"/data\"";
            findings.push(Finding::new(format!("{at}.mountPath"), message, hint));
        }
        how(findings, &at, mount, container);
    }
}

fn how(findings: &mut Vec<Finding>, path: &str, mount: &VolumeMount, container: &Container) {
    if mount.sub_path.is_some() && mount.sub_path_expr.is_some() {
        let message = "the mount has a subPath already";
        findings.push(Finding::new(
            format!("{path}.subPathExpr"),
            message,
            "remove one of the two",
        ));
    }
    if let Some(text) = &mount.sub_path_expr
        && (text.is_empty() || text.starts_with('/') || text.split('/').any(|part| part == ".."))
    {
        let hint = "leave out the leading \"/\" and \"..\", like \"$(POD_NAME)/data\"";
        findings.push(Finding::new(format!("{path}.subPathExpr"), "leads out of the volume", hint));
    }
    let propagation = mount.mount_propagation.unwrap_or(MountPropagation::None);
    if propagation == MountPropagation::Bidirectional && !container.security_context.privileged {
        let message = "mounts of a container without \"privileged\" never reach the node";
        let hint = "remove it, or make the container privileged";
        findings.push(Finding::new(format!("{path}.mountPropagation"), message, hint));
    }
    if matches!(
        mount.recursive_read_only,
        Some(RecursiveReadOnly::Enabled | RecursiveReadOnly::IfPossible)
    ) {
        let at = format!("{path}.recursiveReadOnly");
        if !mount.read_only {
            findings.push(Finding::new(at, "the mount is not read-only", "add \"readOnly: true\""));
        } else if propagation != MountPropagation::None {
            let message = "mounts that appear later would not be read-only";
            findings.push(Finding::new(at, message, "remove it, or remove mountPropagation"));
        }
    }
}
