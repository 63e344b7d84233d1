//! The OCI spec of a container: a pure function of pod, container, image and a few paths. No I/O.
//!
//! It works around what `libcontainer` 0.7 does differently from runc, each place says how.

mod process;
mod seccomp;

pub(crate) use process::{ProcessError, User, find_user};

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::image::ImageConfig;
use crate::pod::{Container, Pod};

/// Everything the spec depends on besides pod and container.
pub(crate) struct Input<'a> {
    /// The pod.
    pub(crate) pod: &'a Pod,
    /// The container, one of the pod's.
    pub(crate) container: &'a Container,
    /// What the image says.
    pub(crate) image: &'a ImageConfig,
    /// Who the program runs as, from container, image and the image's /etc/passwd.
    pub(crate) user: &'a User,
    /// Absolute path of the root file system.
    pub(crate) rootfs: &'a Path,
    /// Path of the cgroup from the root of the hierarchy, with the leading slash: a relative one makes libcontainer
    /// talk to systemd.
    pub(crate) cgroup: &'a str,
    /// Folder with the pinned namespaces.
    pub(crate) namespaces: &'a Path,
    /// Folder with `resolv.conf`, `hosts` and `hostname`.
    pub(crate) etc: &'a Path,
    /// Folder that all containers of the pod see as /dev/shm.
    pub(crate) shm: &'a Path,
    /// Where each volume is on the node, by name.
    pub(crate) volumes: &'a [(String, PathBuf)],
    /// Memory of the node.
    pub(crate) node_memory_bytes: u64,
}

/// What a container may not see of /proc and /sys: runc's and Kubernetes' list.
const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/interrupts",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What it may only read.
const READ_ONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The default set of Docker and containerd.
const DEFAULT_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// All capabilities of Linux 6.12.
const ALL_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

/// The spec.
pub(crate) fn build(input: &Input<'_>) -> Result<Value, ProcessError> {
    let security = &input.container.security;
    let capabilities = capabilities(input.container);
    let mut linux = json!({
        "cgroupsPath": input.cgroup,
        "namespaces": namespaces(input),
        "rootfsPropagation": "slave",
    });
    if !security.privileged {
        linux["maskedPaths"] = json!(MASKED_PATHS);
        linux["readonlyPaths"] = json!(READ_ONLY_PATHS);
        linux["seccomp"] = seccomp::profile(&capabilities);
    }
    Ok(json!({
        "ociVersion": "1.2.0",
        "root": { "path": input.rootfs, "readonly": security.read_only_root },
        "process": process::build(input, &capabilities)?,
        "mounts": mounts(input)?,
        "linux": linux,
    }))
}

/// Capabilities of the container: the default set, less what is dropped, plus what is added. "ALL" may be added or
/// dropped; what is both added and dropped stays.
fn capabilities(container: &Container) -> Vec<String> {
    let security = &container.security;
    let full = |name: &String| {
        let upper = name.to_ascii_uppercase();
        if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
    };
    let added: Vec<String> = security.capabilities_add.iter().map(full).collect();
    let dropped: Vec<String> = security.capabilities_drop.iter().map(full).collect();
    let all = |list: &[String]| list.iter().any(|name| name == "CAP_ALL");
    if security.privileged || all(&added) {
        return ALL_CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    }
    let kept = |name: &&&str| !all(&dropped) && !dropped.iter().any(|d| d == **name);
    let mut result: Vec<String> =
        DEFAULT_CAPABILITIES.iter().filter(kept).map(|name| (*name).to_owned()).collect();
    // A name that Linux does not have would make the whole container fail; the config check refuses it earlier.
    result.extend(added.into_iter().filter(|name| ALL_CAPABILITIES.contains(&name.as_str())));
    result.sort();
    result.dedup();
    result
}

fn namespaces(input: &Input<'_>) -> Value {
    let pinned =
        |kind: &str, file: &str| json!({"type": kind, "path": input.namespaces.join(file)});
    let mut list = vec![
        json!({"type": "mount"}),
        json!({"type": "pid"}),
        json!({"type": "cgroup"}),
        pinned("ipc", "ipc"),
        pinned("uts", "uts"),
    ];
    if !input.pod.host_network {
        list.push(pinned("network", "net"));
    }
    Value::Array(list)
}

fn mounts(input: &Input<'_>) -> Result<Value, ProcessError> {
    let security = &input.container.security;
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let system = if security.privileged { "rw" } else { "ro" };
    let closed = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&closed[..], more].concat();
    let mut list = vec![
        mount("/proc", "proc", "proc", &closed),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &closed),
        mount("/sys", "sysfs", "sysfs", &with(&[system])),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &with(&["relatime", system])),
    ];
    let bind = |destination: &str, source: &Path, options: &[&str]| json!({"destination": destination, "type": "bind", "source": source, "options": options});
    list.push(bind("/dev/shm", input.shm, &["rbind", "nosuid", "noexec", "nodev", "rw"]));
    for file in ["resolv.conf", "hosts", "hostname"] {
        let destination = format!("/etc/{file}");
        // A volume there wins: the image's owner knows better.
        if !input.container.mounts.iter().any(|m| m.path == destination) {
            list.push(bind(&destination, &input.etc.join(file), &["rbind", "rw"]));
        }
    }
    for volume in &input.container.mounts {
        let source = input.volumes.iter().find(|(name, _)| *name == volume.volume);
        let (_, source) =
            source.ok_or_else(|| ProcessError::NoVolume { volume: volume.volume.clone() })?;
        let source = source.join(&volume.sub_path);
        let access = if volume.read_only { "ro" } else { "rw" };
        list.push(bind(&volume.path, &source, &["rbind", "rprivate", access]));
    }
    Ok(Value::Array(list))
}

#[cfg(test)]
mod tests;
