//! The cgroups of pods and containers: the files that carry limits.
//!
//! Layout: `<root>/pods/<sandbox key>/<container id>`, or wherever the caller of a sandbox wants its parent. Limits are
//! written before a process enters, so that there is no moment without them.

mod changes;
mod settings;

pub(crate) use settings::{Settings, settings};

use std::path::{Path, PathBuf};

use crate::config::SandboxConfig;

/// Controllers that every pod has.
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids", "io"];

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
    /// Read one of its files.
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The name of a limit is none.
    #[error("{name:?} is not the name of a limit")]
    Name { name: String },
    /// Its path leads elsewhere.
    #[error("{path:?} is not the path of a cgroup")]
    Path { path: String },
    /// Remove it.
    #[error("remove cgroup {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// `errno` of a controller that the kernel does not have, or that is not free for use below.
const EINVAL: i32 = rustix::io::Errno::INVAL.raw_os_error();
const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();

/// The cgroup above the sandbox's.
fn parent_path(config: &SandboxConfig) -> &str {
    if config.cgroup_parent.is_empty() { "/pods" } else { &config.cgroup_parent }
}

/// A cgroup, whether it exists or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup of a sandbox: its own below the wanted parent, or that parent itself when it belongs to the pod alone.
    ///
    /// # Errors
    /// When the wanted parent is not an absolute path without `.` and `..`.
    pub(crate) fn of_sandbox(
        root: &Path,
        key: &str,
        config: &SandboxConfig,
    ) -> Result<Self, CgroupError> {
        let parent = Self::below(root, parent_path(config))?;
        let own = !config.cgroup_parent_is_pod || config.cgroup_parent.is_empty();
        Ok(if own { parent.child(key) } else { parent })
    }

    /// The cgroup of a pod of the node's own.
    pub(crate) fn of_pod(root: &Path, uid: &str) -> Self {
        Self { path: root.join("pods").join(uid) }
    }

    /// A cgroup by its path from the root of the hierarchy, as `/proc/PID/cgroup` names it.
    ///
    /// # Errors
    /// When that path could lead out of the hierarchy.
    pub(crate) fn below(root: &Path, path: &str) -> Result<Self, CgroupError> {
        let wrong = || CgroupError::Path { path: path.to_owned() };
        let inside = path.strip_prefix('/').ok_or_else(wrong)?;
        let part = |part: &str| !part.is_empty() && part != "." && part != "..";
        if inside.split('/').all(part) && !inside.contains(['\0', '\n']) {
            Ok(Self { path: root.join(inside) })
        } else {
            Err(wrong())
        }
    }

    /// The cgroup of a container in the pod's.
    pub(crate) fn of_container(&self, id: &str) -> Self {
        self.child(id)
    }

    fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its path from the root of the hierarchy, with the leading slash.
    pub(crate) fn name(&self, root: &Path) -> String {
        let inside = self.path.strip_prefix(root).unwrap_or(&self.path);
        format!("/{}", inside.display())
    }

    /// Makes it, if it is not there, and writes the settings. Controllers are switched on in the folders above it.
    pub(crate) fn create(&self, root: &Path, settings: &Settings) -> Result<(), CgroupError> {
        match std::fs::create_dir(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&self.path)
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
        .map_err(|source| CgroupError::Create { path: self.path.clone(), source })?;
        self.enable(root, settings)?;
        self.write(settings)
    }

    /// Sees to it that the cgroup has the controllers that pods need, and those that `settings` are about.
    fn enable(&self, root: &Path, settings: &Settings) -> Result<(), CgroupError> {
        let path = self.path.join("cgroup.controllers");
        let present =
            std::fs::read_to_string(&path).map_err(|source| CgroupError::Read { path, source })?;
        let wanted = CONTROLLERS.iter().copied().chain(settings::more_controllers(settings));
        let mut missing: Vec<String> = wanted
            .filter(|wanted| !present.split_ascii_whitespace().any(|name| name == *wanted))
            .map(|name| format!("+{name}"))
            .collect();
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let mut folder = root.to_owned();
        for part in self.path.strip_prefix(root).unwrap_or(Path::new("")) {
            let file = folder.join("cgroup.subtree_control");
            for controller in &missing {
                match write(&file, controller) {
                    // A kernel without that controller; what needs it says so when it is written.
                    Err(CgroupError::Write { source, .. })
                        if matches!(source.raw_os_error(), Some(EINVAL | ENOENT)) => {}
                    written => written?,
                }
            }
            folder.push(part);
        }
        Ok(())
    }

    /// Lets the cgroups in it have the controllers that pods need: one write, instead of one for each container.
    pub(crate) fn delegate(&self) -> Result<(), CgroupError> {
        let all: Vec<String> = CONTROLLERS.iter().map(|name| format!("+{name}")).collect();
        write(&self.path.join("cgroup.subtree_control"), &all.join(" "))
    }

    /// Writes settings.
    fn write(&self, settings: &Settings) -> Result<(), CgroupError> {
        for (file, value) in settings {
            match write(&self.path.join(file), value) {
                // A kernel without swap accounting has no such file, and then no swap to limit either.
                Err(_) if *file == "memory.swap.max" => {}
                // Huge pages of a size that the machine does not have cannot be used either.
                Err(CgroupError::Write { source, .. })
                    if file.starts_with("hugetlb.")
                        && source.kind() == std::io::ErrorKind::NotFound => {}
                written => written?,
            }
        }
        Ok(())
    }

    /// Changes limits of a cgroup in use: all of them, or none and an error.
    ///
    /// # Errors
    /// When the kernel refuses one; the others then have their old values.
    pub(crate) fn update(&self, root: &Path, settings: &Settings) -> Result<(), CgroupError> {
        self.enable(root, settings)?;
        let mut before = Settings::new();
        for setting in settings {
            let (file, _) = setting;
            let old = std::fs::read_to_string(self.path.join(file)).unwrap_or_default();
            if let Err(error) = self.write(&vec![setting.clone()]) {
                for old in before.into_iter().rev() {
                    // The kernel took this value before; if it does not now, there is nothing better to write.
                    let _ = self.write(&vec![old]);
                }
                return Err(error);
            }
            before.push((file.clone(), old.trim().to_owned()));
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

    /// Where the kernel tells that its last process has ended; `None` when it is not there.
    pub(crate) fn changes(&self) -> std::io::Result<Option<changes::Changes>> {
        changes::Changes::open(&self.path.join("cgroup.events"))
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
