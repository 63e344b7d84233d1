//! The cgroups of pods: numbers from quotas (pure), and the files that carry them.
//!
//! Layout: `<root>/pods/<pod uid>/<container id>`. Limits are written before a process enters, so that there is no moment
//! without them.

use std::path::{Path, PathBuf};

use crate::pod::{Pod, Resources};

/// Enforcement period of `cpu.max` in microseconds: the kernel's and Kubernetes' default.
const CPU_PERIOD_USEC: u64 = 100_000;

/// The kernel refuses a smaller quota.
const CPU_QUOTA_USEC_MIN: u64 = 1_000;

/// Why a cgroup could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// Make it.
    #[error("create cgroup {path}")]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Write one of its files.
    #[error("write {value:?} to {path}")]
    Write {
        path: PathBuf,
        value: String,
        #[source]
        source: std::io::Error,
    },
    /// Remove it.
    #[error("remove cgroup {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// What is written to a cgroup: file name and value, in this order.
pub(crate) type Settings = Vec<(&'static str, String)>;

/// `cpu.max` of a limit in thousandths of a CPU.
pub(crate) fn cpu_max(millis: u64) -> String {
    let quota = millis.saturating_mul(CPU_PERIOD_USEC / 1000).max(CPU_QUOTA_USEC_MIN);
    format!("{quota} {CPU_PERIOD_USEC}")
}

/// `cpu.weight` of a request in thousandths of a CPU, by the same two steps as the kubelet: to v1 shares (2 to 262144),
/// then to a weight (1 to 10000).
pub(crate) fn cpu_weight(millis: u64) -> u64 {
    let shares = (millis.saturating_mul(1024) / 1000).clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// Settings of a container's cgroup.
pub(crate) fn container_settings(resources: &Resources, pids_limit: Option<u64>) -> Settings {
    let mut settings = common(resources);
    // The container dies as a whole: half a container is worse than none.
    settings.push(("memory.oom.group", "1".to_owned()));
    settings.extend(pids_limit.map(|limit| ("pids.max", limit.to_string())));
    settings
}

/// Settings of a pod's cgroup: sums, where every container has the number.
pub(crate) fn pod_settings(pod: &Pod) -> Settings {
    let sum = |field: fn(&Resources) -> Option<u64>| {
        let fields = pod.containers.iter().map(|c| field(&c.resources));
        fields.reduce(|a, b| Some(a?.saturating_add(b?))).flatten()
    };
    // An init container runs alone, so it must fit: the larger of the two.
    let widest = |field: fn(&Resources) -> Option<u64>| {
        let largest = |sum: u64| {
            let init = pod.init_containers.iter().map(|c| field(&c.resources));
            init.chain([Some(sum)]).reduce(|a, b| Some(a?.max(b?))).flatten()
        };
        sum(field).and_then(largest)
    };
    let some = |field: fn(&Resources) -> Option<u64>| {
        let total: u64 = pod.containers.iter().filter_map(|c| field(&c.resources)).sum();
        (total > 0).then_some(total)
    };
    let total = Resources {
        cpu_limit_millis: widest(|r| r.cpu_limit_millis),
        memory_limit_bytes: widest(|r| r.memory_limit_bytes),
        cpu_request_millis: some(|r| r.cpu_request_millis),
        memory_request_bytes: some(|r| r.memory_request_bytes),
    };
    let mut settings = common(&total);
    settings.extend(pod.pids_limit.map(|limit| ("pids.max", limit.to_string())));
    settings
}

fn common(resources: &Resources) -> Settings {
    let mut settings = Settings::new();
    settings.extend(resources.cpu_limit_millis.map(|millis| ("cpu.max", cpu_max(millis))));
    // Without a request a pod gets the least, as best-effort pods do.
    let weight = cpu_weight(resources.cpu_request_millis.unwrap_or(0));
    settings.push(("cpu.weight", weight.to_string()));
    if let Some(bytes) = resources.memory_limit_bytes {
        settings.push(("memory.max", bytes.to_string()));
        // A limit that spills into swap is no limit.
        settings.push(("memory.swap.max", "0".to_owned()));
    }
    settings.extend(resources.memory_request_bytes.map(|bytes| ("memory.low", bytes.to_string())));
    settings
}

/// A cgroup, whether it exists or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup of a pod.
    pub(crate) fn of_pod(root: &Path, uid: &str) -> Self {
        Self { path: root.join("pods").join(uid) }
    }

    /// The cgroup of a container in the pod's.
    pub(crate) fn of_container(&self, id: &str) -> Self {
        Self { path: self.path.join(id) }
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, if it is not there, and writes the settings. Controllers are switched on in the folders above it.
    pub(crate) fn create(&self, root: &Path, settings: &Settings) -> Result<(), CgroupError> {
        let mut folder = root.to_owned();
        for part in self.path.strip_prefix(root).unwrap_or(Path::new("")) {
            let value = "+cpu +memory +pids +io";
            write(&folder.join("cgroup.subtree_control"), value)?;
            folder.push(part);
            match std::fs::create_dir(&folder) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(CgroupError::Create { path: folder, source: e });
                }
                _ => {}
            }
        }
        for (file, value) in settings {
            match write(&self.path.join(file), value) {
                // A kernel without swap accounting has no such file, and then no swap to limit either.
                Err(_) if *file == "memory.swap.max" => {}
                written => written?,
            }
        }
        Ok(())
    }

    /// Kills every process in it and below. One that is not there is fine.
    pub(crate) fn kill(&self) -> Result<(), CgroupError> {
        let path = self.path.join("cgroup.kill");
        match std::fs::write(&path, "1") {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(CgroupError::Write { path, value: "1".to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// Whether a process is in it or below.
    pub(crate) fn is_populated(&self) -> bool {
        self.flag("cgroup.events", "populated").unwrap_or(0) != 0
    }

    /// Removes it and what is below, deepest first: a container may have made cgroups of its own. It must be empty of
    /// processes. One that is not there is fine.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        remove_tree(&self.path)
    }

    /// A number of a file with lines `key number`.
    pub(crate) fn flag(&self, file: &str, key: &str) -> Option<u64> {
        number_after(&std::fs::read_to_string(self.path.join(file)).ok()?, key)
    }

    /// A file that holds one number; `None` for "max" or an absent file.
    pub(crate) fn number(&self, file: &str) -> Option<u64> {
        std::fs::read_to_string(self.path.join(file)).ok()?.trim().parse().ok()
    }

    /// The whole file.
    pub(crate) fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }
}

/// The number of a line `key number`.
pub(crate) fn number_after(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

/// `avg10` of the line `some` of a pressure file.
pub(crate) fn pressure_some_avg10(text: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix("some "));
    let field = line.and_then(|line| line.split(' ').find_map(|f| f.strip_prefix("avg10=")));
    field.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    std::fs::write(path, value).map_err(|source| CgroupError::Write {
        path: path.into(),
        value: value.into(),
        source,
    })
}

fn remove_tree(path: &Path) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::Remove { path: path.to_owned(), source };
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
