//! Network configurations of CNI as they lie on disk, and what each plugin of a chain is told. Pure, except for reading a
//! folder of small files.
//!
//! CNI specification 1.1.0, sections 1 and 3; versions from 0.1.0 are understood, because plugins that old are in use.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Largest configuration that is read, in bytes; a large one has a few kilobytes.
const LENGTH_MAX: u64 = 256 * 1024;

/// Files in the folder that are looked at, at most.
const FILES_MAX: usize = 1000;

/// Plugins in a chain at most.
const PLUGINS_MAX: usize = 16;

/// What we speak, oldest first.
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file could not be read.
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is no JSON.
    #[error("understand {path}")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// It says nothing useful.
    #[error("{path}: {what}")]
    Wrong { path: PathBuf, what: String },
}

/// A configuration that can be carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Network {
    /// Name of the network.
    pub(super) name: String,
    /// The version spoken with its plugins.
    pub(super) version: String,
    #[serde(default)]
    disable_check: bool,
    #[serde(default)]
    disable_gc: bool,
    /// The chain, each as it was written.
    plugins: Vec<Map<String, Value>>,
}

/// What is done with an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
}

impl Verb {
    /// As plugins read it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }
}

/// The configuration that counts: the first file by name that can be used. `None` when there is no file.
///
/// # Errors
/// When there are files and none can be used: what is wrong with the first.
pub(super) fn load(folder: &Path) -> Result<Option<Network>, ConfigError> {
    let mut first_error = None;
    for path in files(folder) {
        match read(&path) {
            Ok(network) => return Ok(Some(network)),
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// Whether there is any file that may be a configuration.
pub(super) fn exists(folder: &Path) -> bool {
    !files(folder).is_empty()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(FILES_MAX);
    let paths = entries.map(|entry| entry.path());
    let is_config = |path: &PathBuf| {
        let extension = path.extension().and_then(std::ffi::OsStr::to_str);
        // A file that begins with a dot is somebody's way to write a file and rename it.
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        matches!(extension, Some("conf" | "conflist" | "json")) && !hidden
    };
    let mut paths: Vec<PathBuf> = paths.filter(is_config).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Result<Network, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > LENGTH_MAX {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    parse(&std::fs::read(path).map_err(failed)?, path)
}

/// What a file says.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Network, ConfigError> {
    let wrong = |what: &str| ConfigError::Wrong { path: path.to_owned(), what: what.to_owned() };
    let value: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|source| ConfigError::Json { path: path.to_owned(), source })?;
    let name = text(&value, "name").unwrap_or_default();
    if !is_plain(name) {
        return Err(wrong("its name is not made of letters, digits, '.', '_' and '-'"));
    }
    let (name, version) = (name.to_owned(), version(&value).map_err(|what| wrong(&what))?);
    let is_set = |key: &str| match value.get(key) {
        Some(Value::Bool(set)) => *set,
        Some(Value::String(set)) => set == "true",
        _ => false,
    };
    let (disable_check, disable_gc) = (is_set("disableCheck"), is_set("disableGC"));
    let plugins = match value.get("plugins") {
        Some(Value::Array(plugins)) => plugins.iter().map(|p| p.as_object().cloned()).collect(),
        Some(_) => None,
        // One plugin without a list around it, as before 1.0.
        None => Some(vec![value.clone()]),
    };
    let plugins: Vec<Map<String, Value>> =
        plugins.ok_or_else(|| wrong("its plugins are not a list of objects"))?;
    if plugins.is_empty() || plugins.len() > PLUGINS_MAX {
        return Err(wrong(&format!("it has not between 1 and {PLUGINS_MAX} plugins")));
    }
    for plugin in &plugins {
        let kind = text(plugin, "type").unwrap_or_default();
        // The type is the file that is executed.
        if !is_plain(kind) {
            return Err(wrong(&format!("a plugin of type {kind:?} cannot be a program")));
        }
    }
    Ok(Network { name, version, disable_check, disable_gc, plugins })
}

/// The newest version that both sides speak.
fn version(value: &Map<String, Value>) -> Result<String, String> {
    let one = text(value, "cniVersion").unwrap_or("0.1.0");
    let more = value.get("cniVersions").and_then(Value::as_array);
    let more = more.into_iter().flatten().filter_map(Value::as_str);
    let known = more.chain([one]).filter_map(rank).max();
    let index = known.ok_or_else(|| format!("its version {one} is not known"))?;
    VERSIONS.get(index).map(|version| (*version).to_owned()).ok_or_else(String::new)
}

fn rank(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|known| *known == version)
}

fn text<'a>(value: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// What the specification allows as a name, and what is safe as a file name.
pub(super) fn is_plain(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl Network {
    /// The programs of the chain.
    pub(super) fn kinds(&self) -> Vec<&str> {
        self.plugins.iter().map(|plugin| text(plugin, "type").unwrap_or_default()).collect()
    }

    /// Whether any plugin wants to be told `capability`.
    pub(super) fn has_capability(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| wants(plugin, capability))
    }

    /// Whether a verb may be used with these plugins.
    pub(super) fn allows(&self, verb: Verb) -> bool {
        let since = |version: &str| rank(&self.version) >= rank(version);
        match verb {
            Verb::Add | Verb::Del => true,
            Verb::Check => since("0.4.0") && !self.disable_check,
            Verb::Gc => since("1.1.0") && !self.disable_gc,
            Verb::Status => since("1.1.0"),
        }
    }

    /// What the plugin at `index` of the chain is told on its standard input. `capabilities` are all that we could tell;
    /// it gets those that it asks for. `more` goes in as it is.
    pub(super) fn input(
        &self,
        index: usize,
        capabilities: &Map<String, Value>,
        previous: Option<&Value>,
        more: &[(&str, Value)],
    ) -> Value {
        let Some(plugin) = self.plugins.get(index) else { return Value::Null };
        let mut input = plugin.clone();
        input.remove("capabilities");
        input.remove("cniVersions");
        input.insert("name".into(), self.name.clone().into());
        input.insert("cniVersion".into(), self.version.clone().into());
        let told: Map<String, Value> = capabilities
            .iter()
            .filter(|(name, _)| wants(plugin, name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !told.is_empty() {
            input.insert("runtimeConfig".into(), told.into());
        }
        if let Some(previous) = previous {
            input.insert("prevResult".into(), previous.clone());
        }
        for (name, value) in more {
            input.insert((*name).to_owned(), value.clone());
        }
        input.into()
    }
}

fn wants(plugin: &Map<String, Value>, capability: &str) -> bool {
    let wanted = plugin.get("capabilities").and_then(|wanted| wanted.get(capability));
    wanted.and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests;
