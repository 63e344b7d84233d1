//! What the new program is to be, from the container's own description. Pure, but for reading that description.
//!
//! Nothing here comes from files of the image: user, groups and rights are the numbers that the container was made with.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use anyhow::{Context as _, bail};
use ingot_runc_api::Exec;
use libcontainer::oci_spec::runtime::LinuxSeccomp;
use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;
use serde::Deserialize;

/// Capabilities in the order of their numbers (`linux/capability.h`).
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Resource limits by their names in the OCI spec.
const RESOURCES: &[(&str, Resource)] = &[
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_STACK", Resource::Stack),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
];

/// Where programs are looked up when the container has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What new files may not be (umask), when the container says nothing.
const DEFAULT_UMASK: u32 = 0o022;

/// The parts of the OCI spec that matter here.
#[derive(Deserialize)]
struct Spec {
    process: Process,
    #[serde(default)]
    linux: Linux,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    user: User,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default = "root_folder")]
    cwd: String,
    #[serde(default)]
    capabilities: Capabilities,
    #[serde(default)]
    rlimits: Vec<Limit>,
    #[serde(default)]
    no_new_privileges: bool,
    #[serde(default)]
    apparmor_profile: String,
    oom_score_adj: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    uid: u32,
    gid: u32,
    #[serde(default)]
    additional_gids: Vec<u32>,
    umask: Option<u32>,
}

/// Capability sets by name; what is not there is empty.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    pub(crate) bounding: Vec<String>,
    pub(crate) effective: Vec<String>,
    pub(crate) inheritable: Vec<String>,
    pub(crate) permitted: Vec<String>,
    pub(crate) ambient: Vec<String>,
}

#[derive(Deserialize)]
struct Limit {
    #[serde(rename = "type")]
    kind: String,
    soft: u64,
    hard: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Linux {
    seccomp: Option<LinuxSeccomp>,
}

fn root_folder() -> String {
    "/".to_owned()
}

/// Everything the new process needs to know, ready to be used without another thought.
pub(super) struct Plan {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) umask: u32,
    pub(super) bounding: CapabilitySet,
    pub(super) effective: CapabilitySet,
    pub(super) inheritable: CapabilitySet,
    pub(super) permitted: CapabilitySet,
    pub(super) ambient: CapabilitySet,
    pub(super) no_new_privileges: bool,
    pub(super) apparmor: Option<String>,
    pub(super) seccomp: Option<LinuxSeccomp>,
    pub(super) limits: Vec<(Resource, Rlimit)>,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) working_folder: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    /// Where the program may be, in this order.
    pub(super) places: Vec<CString>,
}

impl Plan {
    /// Reads what the container is, and adds what is asked for.
    pub(super) fn read(request: &Exec) -> anyhow::Result<Self> {
        let path = request.bundle.join("config.json");
        let spec = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Self::new(&spec, environment_file(&request.bundle)?.as_deref(), request)
    }

    /// `environment`: what the file beside the spec says, each variable ended by a zero byte.
    fn new(spec: &[u8], environment: Option<&[u8]>, request: &Exec) -> anyhow::Result<Self> {
        let Spec { process, linux } =
            serde_json::from_slice(spec).context("understand the container's config.json")?;
        let Some(program) = request.command.first().filter(|program| !program.is_empty()) else {
            bail!("no program to execute");
        };
        let environment = match environment {
            Some(bytes) => merge(bytes.split(|byte| *byte == 0), &request.environment),
            None => merge(process.env.iter().map(String::as_bytes), &request.environment),
        };
        let path = environment.get(&b"PATH"[..]).map_or(DEFAULT_PATH.as_bytes(), Vec::as_slice);
        let places = places(program, path);
        let lines = environment.iter().map(|(name, value)| [name, &b"="[..], value].concat());
        let sets = &process.capabilities;
        Ok(Self {
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids,
            umask: process.user.umask.unwrap_or(DEFAULT_UMASK),
            bounding: capability_set(&sets.bounding)?,
            effective: capability_set(&sets.effective)?,
            inheritable: capability_set(&sets.inheritable)?,
            permitted: capability_set(&sets.permitted)?,
            ambient: capability_set(&sets.ambient)?,
            no_new_privileges: process.no_new_privileges,
            apparmor: Some(process.apparmor_profile).filter(|profile| !profile.is_empty()),
            seccomp: linux.seccomp,
            limits: limits(&process.rlimits)?,
            oom_score_adj: process.oom_score_adj,
            working_folder: c_string(process.cwd.into_bytes(), "the working folder")?,
            arguments: c_strings(request.command.iter().map(|a| a.clone().into_bytes()))?,
            environment: c_strings(lines)?,
            places: c_strings(places.into_iter())?,
        })
    }
}

/// The environment with any bytes, which the spec cannot hold; `None`: the spec's own counts.
fn environment_file(bundle: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let path = bundle.join("env");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}

/// Variables by name; a later one replaces an earlier one.
fn merge<'a>(
    container: impl Iterator<Item = &'a [u8]>,
    more: &'a [String],
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let all = container.chain(more.iter().map(String::as_bytes));
    let split = |line: &'a [u8]| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = line.split_at_checked(at)?;
        (!name.is_empty()).then(|| (name.to_vec(), value.get(1..).unwrap_or_default().to_vec()))
    };
    all.filter_map(split).collect()
}

/// Paths to try for a program, as execvp(3) does.
fn places(program: &str, path: &[u8]) -> Vec<Vec<u8>> {
    if program.contains('/') {
        return vec![program.as_bytes().to_vec()];
    }
    let folder = |folder: &[u8]| if folder.is_empty() { b".".to_vec() } else { folder.to_vec() };
    path.split(|byte| *byte == b':')
        .map(|entry| [&folder(entry)[..], b"/", program.as_bytes()].concat())
        .collect()
}

/// Capabilities by their names.
pub(crate) fn capability_set(names: &[String]) -> anyhow::Result<CapabilitySet> {
    let mut bits = 0;
    for name in names {
        let known = name.strip_prefix("CAP_").unwrap_or(name);
        let number = CAPABILITIES.iter().position(|capability| *capability == known);
        bits |= 1_u64 << number.with_context(|| format!("unknown capability {name}"))?;
    }
    Ok(CapabilitySet::from_bits_retain(bits))
}

fn limits(list: &[Limit]) -> anyhow::Result<Vec<(Resource, Rlimit)>> {
    let one = |limit: &Limit| {
        let known = RESOURCES.iter().find(|(name, _)| *name == limit.kind);
        let (_, resource) = known.with_context(|| format!("unknown limit {}", limit.kind))?;
        // The kernel's "no limit" is the largest number.
        let some = |value: u64| (value != u64::MAX).then_some(value);
        Ok((*resource, Rlimit { current: some(limit.soft), maximum: some(limit.hard) }))
    };
    list.iter().map(one).collect()
}

fn c_strings(list: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<Vec<CString>> {
    list.map(|bytes| c_string(bytes, "an argument or variable")).collect()
}

fn c_string(bytes: Vec<u8>, what: &str) -> anyhow::Result<CString> {
    CString::new(bytes).with_context(|| format!("{what} has a zero byte in it"))
}

#[cfg(test)]
mod tests;
