//! cgroup v2: groups as folders, settings and counters as files.
//!
//! It sets no policy: which groups exist and what they may use is the caller's. Groups are named by paths below the
//! mount point and must be names the caller made, never text from outside.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Where the hierarchy is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// Which file or folder refused what.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The group was not made.
    #[error("create cgroup {path}")]
    Create {
        /// Its folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The group was not removed; `EBUSY` while processes or groups are in it.
    #[error("remove cgroup {path}")]
    Remove {
        /// Its folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was not read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was not written.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel wrote what we do not understand.
    #[error("understand {path}")]
    Parse {
        /// The file.
        path: PathBuf,
    },
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cgroup {
    path: PathBuf,
}

/// One line of a pressure file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureLine {
    /// Share of the last 10 s, in percent.
    pub average_10s: f32,
    /// Share of the last 60 s, in percent.
    pub average_60s: f32,
    /// Share of the last 300 s, in percent.
    pub average_300s: f32,
    /// All of it, in microseconds.
    pub total_us: u64,
}

/// How long processes of a group waited for a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// At least one waited.
    pub some: PressureLine,
    /// All waited at once; zero where the kernel does not count it.
    pub full: PressureLine,
}

impl Cgroup {
    /// The root of the hierarchy.
    #[must_use]
    pub fn root() -> Self {
        Self { path: ROOT.into() }
    }

    /// The group at this path below the root, such as `/system/ingotd`. It need not exist.
    #[must_use]
    pub fn at(path: &str) -> Self {
        Self::root().child(path.trim_start_matches('/'))
    }

    /// The group of this name in this group.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes it; one that exists is no error. Its parent must exist.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(&self) -> Result<(), CgroupError> {
        match fs::create_dir(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(CgroupError::Create { path: self.path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Removes it; one that is gone is no error. It must be empty.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self) -> Result<(), CgroupError> {
        match fs::remove_dir(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(CgroupError::Remove { path: self.path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// The text of a file, without the last line end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, file: &str) -> Result<String, CgroupError> {
        let path = self.path.join(file);
        match fs::read_to_string(&path) {
            Ok(mut text) => {
                text.truncate(text.trim_end().len());
                Ok(text)
            }
            Err(source) => Err(CgroupError::Read { path, source }),
        }
    }

    /// The number in a file; `None` for `max`.
    ///
    /// # Errors
    /// When it cannot be read or holds something else.
    pub fn read_number(&self, file: &str) -> Result<Option<u64>, CgroupError> {
        match self.read(file)?.as_str() {
            "max" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| CgroupError::Parse { path: self.path.join(file) }),
        }
    }

    /// The value of one key in a file of `key value` lines, such as `memory.events`; `None` when it has no such key.
    ///
    /// # Errors
    /// When the file cannot be read or the value is no number.
    pub fn read_key(&self, file: &str, key: &str) -> Result<Option<u64>, CgroupError> {
        let text = self.read(file)?;
        let Some(value) = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| CgroupError::Parse { path: self.path.join(file) })
    }

    /// Writes a file in one call.
    ///
    /// # Errors
    /// When the kernel refuses the value.
    pub fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.path.join(file);
        // Not fs::write: that would try to create and truncate, and misname the error.
        let result = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut open| io::Write::write_all(&mut open, value.as_bytes()));
        result.map_err(|source| CgroupError::Write { path, value: value.into(), source })
    }

    /// The groups in it, sorted by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn children(&self) -> Result<Vec<Cgroup>, CgroupError> {
        let failed = |source| CgroupError::Read { path: self.path.clone(), source };
        let mut children = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                children.push(Cgroup { path: entry.path() });
            }
        }
        children.sort();
        Ok(children)
    }

    /// Pids of the processes in it, not in groups below.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let text = self.read("cgroup.procs")?;
        text.lines()
            .map(|line| {
                line.parse()
                    .map_err(|_| CgroupError::Parse { path: self.path.join("cgroup.procs") })
            })
            .collect()
    }

    /// Moves a process into it; 0 is the caller.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_process(&self, pid: i32) -> Result<(), CgroupError> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Whether any process is in it or below.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        Ok(self.read_key("cgroup.events", "populated")? == Some(1))
    }

    /// Kills every process in it and below, at once and without a race against forks.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
    }

    /// How long its processes waited for `resource`: `cpu`, `memory` or `io`.
    ///
    /// # Errors
    /// When the kernel does not count it.
    pub fn pressure(&self, resource: &str) -> Result<Pressure, CgroupError> {
        let file = format!("{resource}.pressure");
        let text = self.read(&file)?;
        parse_pressure(&text).ok_or_else(|| CgroupError::Parse { path: self.path.join(file) })
    }
}

/// Writes to this `cgroup.kill` file, as [`Cgroup::kill`] does. Allocates nothing.
///
/// # Errors
/// When the kernel refuses.
pub fn kill_by_file(file: &CStr) -> io::Result<()> {
    let open = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&open, b"1")?;
    Ok(())
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`.
fn parse_pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let place = match words.next()? {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        for word in words {
            let (key, value) = word.split_once('=')?;
            match key {
                "avg10" => place.average_10s = value.parse().ok()?,
                "avg60" => place.average_60s = value.parse().ok()?,
                "avg300" => place.average_300s = value.parse().ok()?,
                "total" => place.total_us = value.parse().ok()?,
                _ => {}
            }
        }
    }
    Some(pressure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_with_and_without_the_full_line() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=7";
        let pressure = parse_pressure(text).expect("pressure");
        assert_eq!((pressure.some.total_us, pressure.full.total_us), (12345, 7));
        assert!((pressure.some.average_10s - 1.5).abs() < f32::EPSILON);
        assert_eq!(parse_pressure("some avg10=x"), None);
        assert_eq!(parse_pressure(""), Some(Pressure::default()));
    }

    #[test]
    fn numbers_keys_and_max_are_read_from_files() {
        let folder = tempfile::tempdir().expect("folder");
        let group = Cgroup { path: folder.path().into() };
        fs::write(folder.path().join("memory.max"), "max\n").expect("write");
        fs::write(folder.path().join("memory.current"), "4096\n").expect("write");
        fs::write(folder.path().join("memory.events"), "oom 1\noom_kill 2\noom_group_kill 3\n")
            .expect("write");
        assert_eq!(group.read_number("memory.max").expect("max"), None);
        assert_eq!(group.read_number("memory.current").expect("current"), Some(4096));
        assert_eq!(group.read_key("memory.events", "oom_kill").expect("events"), Some(2));
        assert_eq!(group.read_key("memory.events", "nothing").expect("events"), None);
    }

    #[test]
    fn an_absent_group_names_the_file_that_was_asked_for() {
        let group = Cgroup::at("/no/such/group");
        let error = kill_by_file(c"/sys/fs/cgroup/no/such/group/cgroup.kill").expect_err("absent");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = group.write("cpu.max", "max").expect_err("absent");
        assert_eq!(error.to_string(), "write \"max\" to /sys/fs/cgroup/no/such/group/cpu.max");
    }
}
