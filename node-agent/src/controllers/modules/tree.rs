//! The folder of kernel modules: which file a name stands for, what it needs first, and which modules drive a piece of
//! hardware. Reads the text indexes depmod writes, line by line, so that nothing of their size stays in memory.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Longest chain of soft dependencies followed.
const SOFT_DEPTH_MAX: u32 = 4;

/// Why a module is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// An index could not be read.
    #[error("read {path}")]
    Index { path: PathBuf, source: std::io::Error },
    /// No such module.
    #[error("this image has no kernel module {0}")]
    Unknown(String),
    /// A parameter that holds a zero byte.
    #[error("a parameter of module {0} is not a text")]
    Parameter(String),
    /// The kernel refused it.
    #[error(transparent)]
    Load(#[from] ingot_linux::module::ModuleError),
}

/// The modules of the running kernel.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// Those of the running kernel.
    pub(crate) fn running() -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Self { folder: Path::new("/usr/lib/modules").join(release) }
    }

    /// Loads a module after all it needs. One that is loaded or built in is no error.
    ///
    /// # Errors
    /// When there is no such module, or the kernel refuses it or what it needs.
    pub(crate) fn load(&self, name: &str, parameters: &[String]) -> Result<(), TreeError> {
        self.load_soft(name, parameters, 0)
    }

    fn load_soft(&self, name: &str, parameters: &[String], depth: u32) -> Result<(), TreeError> {
        let name = normal(name);
        if is_loaded(&name) {
            return Ok(());
        }
        let Some(files) = self.files(&name)? else {
            return if self.is_built_in(&name) { Ok(()) } else { Err(TreeError::Unknown(name)) };
        };
        if depth < SOFT_DEPTH_MAX {
            for before in self.soft_dependencies(&name) {
                // Soft means: load it where it exists, and go on without it elsewhere.
                let _ = self.load_soft(&before, &[], depth + 1);
            }
        }
        let joined =
            CString::new(parameters.join(" ")).map_err(|_| TreeError::Parameter(name.clone()))?;
        for (index, file) in files.iter().enumerate() {
            let last = index + 1 == files.len();
            let parameters = if last { joined.as_c_str() } else { c"" };
            ingot_linux::module::load(&self.folder.join(file), parameters)?;
        }
        Ok(())
    }

    /// Files to load for a module, what it needs first, itself last. `None` when `modules.dep` does not know it.
    fn files(&self, name: &str) -> Result<Option<Vec<String>>, TreeError> {
        let mut found = None;
        self.lines("modules.dep", |line| {
            let (file, needs) = line.split_once(':')?;
            if module_name(file) != name {
                return Some(true);
            }
            // depmod writes what is needed in the order of need, nearest first.
            let mut files: Vec<String> =
                needs.split_whitespace().rev().map(str::to_owned).collect();
            files.push(file.to_owned());
            found = Some(files);
            None
        })?;
        Ok(found)
    }

    fn is_built_in(&self, name: &str) -> bool {
        let mut found = false;
        // Without the index nothing is known to be built in.
        let _ = self.lines("modules.builtin", |line| {
            found |= module_name(line) == name;
            (!found).then_some(true)
        });
        found
    }

    fn soft_dependencies(&self, name: &str) -> Vec<String> {
        let mut needs = Vec::new();
        // Without the index there are none.
        let _ = self.lines("modules.softdep", |line| {
            let mut words = line.split_whitespace();
            if words.next() == Some("softdep") && words.next().map(normal).as_deref() == Some(name)
            {
                let before = words.skip_while(|word| *word != "pre:").skip(1);
                needs.extend(before.take_while(|word| *word != "post:").map(str::to_owned));
            }
            Some(true)
        });
        needs
    }

    /// Modules that drive any of this hardware, by the patterns in `modules.alias`.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn drivers(
        &self,
        hardware: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, TreeError> {
        let mut drivers = BTreeSet::new();
        self.lines("modules.alias", |line| {
            let mut words = line.split(' ');
            let (Some("alias"), Some(pattern), Some(name)) =
                (words.next(), words.next(), words.next())
            else {
                return Some(true);
            };
            let bus = pattern.split([':', '*', '?', '[']).next().unwrap_or(pattern);
            // The set is sorted, so hardware of one bus lies together.
            let mut same_bus =
                hardware.range(bus.to_owned()..).take_while(|alias| alias.starts_with(bus));
            if same_bus.any(|alias| matches(pattern.as_bytes(), alias.as_bytes())) {
                drivers.insert(normal(name));
            }
            Some(true)
        })?;
        Ok(drivers)
    }

    /// Calls `each` for every line until it says `None`.
    fn lines(
        &self,
        index: &str,
        mut each: impl FnMut(&str) -> Option<bool>,
    ) -> Result<(), TreeError> {
        let path = self.folder.join(index);
        let failed = |source| TreeError::Index { path: path.clone(), source };
        let mut reader = BufReader::with_capacity(32 * 1024, File::open(&path).map_err(failed)?);
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).map_err(failed)? == 0 {
                return Ok(());
            }
            if each(line.trim_end()).is_none() {
                return Ok(());
            }
        }
    }
}

/// Whether a module is loaded, or built in with parameters.
pub(crate) fn is_loaded(name: &str) -> bool {
    Path::new("/sys/module").join(normal(name)).exists()
}

/// What all devices say of themselves, for choosing drivers.
pub(crate) fn hardware() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let buses = fs::read_dir("/sys/bus").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = buses.map(|bus| bus.path().join("devices")).collect();
    // No bus, but the power button needs its event driver.
    folders.push("/sys/class/input".into());
    for folder in folders {
        for device in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(alias) = fs::read_to_string(device.path().join("modalias")) else { continue };
            // A device with a driver needs none.
            if !alias.trim().is_empty() && !device.path().join("driver").exists() {
                found.insert(alias.trim().to_owned());
            }
        }
    }
    found
}

/// The kernel treats `-` and `_` in module names as the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/net/bridge/bridge.ko` is module `bridge`.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normal(base.split(".ko").next().unwrap_or(base))
}

/// Shell-style patterns as in `modules.alias`: `*`, `?` and `[...]`. Linear in the product of both lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(length) = matches_one(&pattern[p..], text[t]) {
            p += length;
            t += 1;
        } else if let Some((after, from)) = star {
            p = after;
            t = from + 1;
            star = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Length of the first element of the pattern when it matches this byte.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().position(|b| *b == b']')?;
            let set = &pattern[1..end];
            let mut index = 0;
            let mut found = false;
            while index < set.len() {
                if set.get(index + 1) == Some(&b'-') && index + 2 < set.len() {
                    found |= (set[index]..=set[index + 2]).contains(&byte);
                    index += 3;
                } else {
                    found |= set[index] == byte;
                    index += 1;
                }
            }
            found.then_some(end + 1)
        }
        literal => (*literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests;
