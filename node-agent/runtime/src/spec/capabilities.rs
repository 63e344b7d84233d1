//! Which capabilities a container has. Pure.

use crate::config::Security;

/// The default set of Docker and containerd.
const DEFAULT: &[&str] = &[
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
pub(super) const ALL: &[&str] = &[
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

/// The sets of a container. Inheritable and ambient are the same, and empty unless asked for (CVE-2022-29162).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// What any process of the container may ever have.
    pub(crate) bounding: Vec<String>,
    /// What stays over execve for other users than root.
    pub(crate) ambient: Vec<String>,
}

/// A name that Linux does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub(super) String);

/// The default set, less what is dropped, plus what is added. "ALL" may be added or dropped; what is both added and dropped
/// stays. What is ambient must be in the result.
pub(super) fn of(security: &Security) -> Result<Capabilities, Unknown> {
    let added = names(&security.capabilities_add)?;
    let dropped = names(&security.capabilities_drop)?;
    let all = |list: &[String]| list.iter().any(|name| name == "CAP_ALL");
    let base = if security.privileged || all(&added) { ALL } else { DEFAULT };
    let kept = |name: &&&str| {
        // A single name dropped counts even against "ALL" added.
        security.privileged || !dropped.iter().any(|d| d == **name)
    };
    let everything_dropped = all(&dropped) && !all(&added) && !security.privileged;
    let mut bounding: Vec<String> = if everything_dropped {
        Vec::new()
    } else {
        base.iter().filter(kept).map(|name| (*name).to_owned()).collect()
    };
    bounding.extend(added.into_iter().filter(|name| name != "CAP_ALL"));
    bounding.sort();
    bounding.dedup();
    let mut ambient = names(&security.capabilities_ambient)?;
    if all(&ambient) {
        ambient.clone_from(&bounding);
    }
    ambient.retain(|name| bounding.contains(name));
    ambient.sort();
    ambient.dedup();
    Ok(Capabilities { bounding, ambient })
}

/// Full names, each checked.
fn names(list: &[String]) -> Result<Vec<String>, Unknown> {
    let full = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let upper = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if upper == "CAP_ALL" || ALL.contains(&upper.as_str()) {
            Ok(upper)
        } else {
            Err(Unknown(name.clone()))
        }
    };
    list.iter().map(full).collect()
}
