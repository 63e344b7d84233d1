//! What the new program is to be, from the container's own description. Pure, but for reading that description.
//!
//! Nothing here comes from files of the image: user, groups and rights are the numbers that the container was made with.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use anyhow::{Context as _, bail};
use ingot_runc_api::{Exec, SECCOMP_FILE};
use rustix::process::{Resource, Rlimit};

use crate::limits;
use crate::rights::Rights;
use crate::spec::Spec;

/// Where programs are looked up when the container has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything the new process needs to know, ready to be used without another thought.
pub(super) struct Plan {
    pub(super) rights: Rights,
    pub(super) umask: u32,
    pub(super) apparmor: Option<String>,
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
        let spec = Spec::read(&request.bundle)?;
        Self::new(spec, environment_file(&request.bundle)?.as_deref(), request)
    }

    /// `environment`: what the file beside the spec says, each variable ended by a zero byte.
    fn new(spec: Spec, environment: Option<&[u8]>, request: &Exec) -> anyhow::Result<Self> {
        let profile = request.bundle.join(SECCOMP_FILE);
        let rights = Rights::of(&spec.process, spec.seccomp(&profile), &request.filters)?;
        let process = spec.process;
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
        Ok(Self {
            rights,
            umask: process.user.umask.unwrap_or(limits::DEFAULT_UMASK),
            apparmor: Some(process.apparmor_profile).filter(|profile| !profile.is_empty()),
            limits: limits::of(&process.rlimits)?,
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

fn c_strings(list: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<Vec<CString>> {
    list.map(|bytes| c_string(bytes, "an argument or variable")).collect()
}

fn c_string(bytes: Vec<u8>, what: &str) -> anyhow::Result<CString> {
    CString::new(bytes).with_context(|| format!("{what} has a zero byte in it"))
}

#[cfg(test)]
mod tests;
