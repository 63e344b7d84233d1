//! Networks made by CNI plugins: as soon as there is a configuration, they connect the sandboxes of the CRI.
//!
//! What was asked of the plugins is written down before they are asked, with the configuration as it was, so that it can be
//! undone after any end of the agent or the node. One call at a time for a sandbox, a few at a time for all.

mod about;
mod config;
mod exec;
mod result;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

pub(super) use self::about::About;
use self::config::{ConfigError, Verb};
use self::exec::{Answer, Call, ExecError};
use super::INSIDE;
use crate::durable::{self, Survives, WriteError};
use crate::engine::Paths;
use crate::report::chain;

/// Plugins that run at the same time at most: each is a process of some ten megabytes.
const CALLS_MAX: usize = 8;

/// How long one plugin may take. Some ask a server, which may just be starting.
const LIMIT: Duration = Duration::from_secs(60);

/// How long plugins may take to say whether they are ready: the caller is asked by the kubelet every few seconds.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// How long their answer to that counts.
const STATUS_AGE: Duration = Duration::from_secs(10);

/// Memory of all running plugins together, and their processes.
const CGROUP_LIMITS: [(&str, &str); 2] = [("memory.max", "268435456"), ("pids.max", "512")];

/// Why plugins did not do what they were asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CniError {
    /// The configuration cannot be used.
    #[error("use the CNI configuration")]
    Config(#[from] ConfigError),
    /// There is none any more.
    #[error("there is no CNI configuration any more")]
    NoConfig,
    /// What is to be done could not be written down, so it was not begun.
    #[error("record the attachment")]
    Record(#[from] WriteError),
    /// What was written down cannot be read.
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A sandbox with such a key would be a danger to its plugins.
    #[error("{key:?} cannot be the name of an attachment")]
    Key { key: String },
    /// No answer.
    #[error("{verb} of network {network}")]
    Exec {
        verb: &'static str,
        network: String,
        #[source]
        source: ExecError,
    },
    /// An answer that says no.
    #[error("{verb} of network {network}: plugin {plugin}: {message}")]
    Refused { verb: &'static str, network: String, plugin: String, message: String },
    /// An answer that is none.
    #[error("understand the answer of plugin {plugin}")]
    Answer {
        plugin: String,
        #[source]
        source: serde_json::Error,
    },
    /// It gave no address.
    #[error("network {network} gave the sandbox no address")]
    NoAddress { network: String },
}

/// A sandbox on a network, or on its way there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attachment {
    pub(super) key: String,
    pub(super) namespace: PathBuf,
    network: config::Network,
    arguments: String,
    capabilities: Map<String, Value>,
    /// What the last plugin of the chain answered; absent while they are at it.
    result: Option<Value>,
}

/// The plugins.
pub(super) struct Cni {
    configs: PathBuf,
    programs: PathBuf,
    attachments: PathBuf,
    cgroup: PathBuf,
    calls: Semaphore,
    /// Shared by what connects and disconnects, alone while plugins clean up.
    cleaning: tokio::sync::RwLock<()>,
    /// Sandboxes something is being done with.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// What the plugins last said about themselves, and when.
    status: tokio::sync::Mutex<Option<Status>>,
}

/// What plugins said about themselves.
struct Status {
    at: Instant,
    of: config::Network,
    said: Result<(), String>,
}

impl Cni {
    /// Everything lies below `/var/lib/cni`; `/etc/cni` and `/opt/cni` of the node lead there.
    pub(super) fn new(paths: &Paths) -> Self {
        let base = paths.var.with_file_name("cni");
        Self {
            configs: base.join("etc/net.d"),
            programs: base.join("opt/bin"),
            attachments: base.join("attachments"),
            cgroup: paths.cgroup.join("system/cni"),
            calls: Semaphore::new(CALLS_MAX),
            cleaning: tokio::sync::RwLock::default(),
            busy: Mutex::default(),
            status: tokio::sync::Mutex::default(),
        }
    }

    /// Makes the folders that others put configurations and plugins into.
    pub(super) fn make_folders(&self) {
        for folder in [&self.configs, &self.programs, &self.attachments] {
            if let Err(error) = std::fs::create_dir_all(folder) {
                tracing::warn!(%error, path = %folder.display(), "make a folder for CNI");
            }
        }
    }

    /// Whether plugins, not we, connect the sandboxes of the CRI.
    pub(super) fn is_wanted(&self) -> bool {
        config::exists(&self.configs)
    }

    /// Whether the plugins lead ports of the node to sandboxes themselves.
    pub(super) fn leads_ports(&self) -> bool {
        matches!(config::load(&self.configs), Ok(Some(network)) if network.has_capability("portMappings"))
    }

    /// Whether plugins did something for a sandbox.
    pub(super) fn is_attached(&self, key: &str) -> bool {
        self.path(key).is_ok_and(|path| path.exists())
    }

    /// Connects a sandbox, and says which addresses it got. What a failed attempt left is taken back at once.
    pub(super) async fn add(
        &self,
        key: &str,
        namespace: &Path,
        about: About,
    ) -> Result<Vec<IpAddr>, CniError> {
        let _no_cleaning = self.cleaning.read().await;
        let _alone = self.alone(key).await;
        let network = config::load(&self.configs)?.ok_or(CniError::NoConfig)?;
        let About { arguments, capabilities } = about;
        let (key, namespace) = (key.to_owned(), namespace.to_owned());
        let mut attachment =
            Attachment { key, namespace, network, arguments, capabilities, result: None };
        self.limit_plugins();
        self.write(&attachment)?;
        match self.add_all(&mut attachment).await {
            Ok(addresses) => {
                self.write(&attachment)?;
                Ok(addresses)
            }
            Err(error) => {
                if let Err(second) = self.delete_all(&attachment).await {
                    // It stays written down, so whoever ends the sandbox tries again.
                    tracing::warn!(error = chain(&second), key = attachment.key, "undo CNI ADD");
                }
                Err(error)
            }
        }
    }

    async fn add_all(&self, attachment: &mut Attachment) -> Result<Vec<IpAddr>, CniError> {
        let network = attachment.network.clone();
        for (index, kind) in network.kinds().into_iter().enumerate() {
            let previous = attachment.result.take();
            let stdout = self.call(Verb::Add, index, attachment, previous.as_ref(), &[]).await?;
            let source = |source| CniError::Answer { plugin: kind.to_owned(), source };
            attachment.result = Some(serde_json::from_slice(&stdout).map_err(source)?);
        }
        let addresses = attachment.result.as_ref().map(result::addresses).unwrap_or_default();
        if addresses.is_empty() {
            return Err(CniError::NoAddress { network: network.name });
        }
        Ok(addresses)
    }

    /// Disconnects a sandbox, as it was connected; false when it was not.
    pub(super) async fn delete(&self, key: &str) -> Result<bool, CniError> {
        let _no_cleaning = self.cleaning.read().await;
        let _alone = self.alone(key).await;
        let Some(attachment) = self.read(key)? else { return Ok(false) };
        self.delete_all(&attachment).await?;
        Ok(true)
    }

    async fn delete_all(&self, attachment: &Attachment) -> Result<(), CniError> {
        let previous = attachment.result.as_ref();
        for index in (0..attachment.network.kinds().len()).rev() {
            self.call(Verb::Del, index, attachment, previous, &[]).await?;
        }
        let path = self.path(&attachment.key)?;
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(CniError::Read { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Asks the plugins whether a sandbox is still connected as they left it.
    async fn check(&self, key: &str) -> Result<(), CniError> {
        let _alone = self.alone(key).await;
        let Some(attachment) = self.read(key)? else { return Ok(()) };
        let (Some(result), true) = (&attachment.result, attachment.network.allows(Verb::Check))
        else {
            return Ok(());
        };
        for index in 0..attachment.network.kinds().len() {
            self.call(Verb::Check, index, &attachment, Some(result), &[]).await?;
        }
        Ok(())
    }

    /// After a restart: disconnects sandboxes that nobody knows any more, tells the plugins who is left, and asks them
    /// whether those are still connected as they left them.
    pub(super) async fn take_over(&self, unknown: Vec<String>) {
        self.sweep(unknown).await;
        for key in self.attached() {
            if let Err(error) = self.check(&key).await {
                // Whoever knows the sandbox sees it in its pod; to connect it anew is not ours to decide.
                tracing::warn!(error = chain(&error), key, "a sandbox is not connected as it was");
            }
        }
    }

    /// Disconnects these sandboxes, which nobody knows any more, then tells the plugins who is left.
    async fn sweep(&self, unknown: Vec<String>) {
        for key in unknown {
            if let Err(error) = self.delete(&key).await {
                tracing::warn!(error = chain(&error), key, "disconnect a sandbox that is gone");
            }
        }
        // While it lasts nobody is connected: plugins would take them for leftovers.
        let _nobody_else = self.cleaning.write().await;
        let Ok(Some(network)) = config::load(&self.configs) else { return };
        if !network.allows(Verb::Gc) {
            return;
        }
        let valid = self.attached().into_iter();
        let valid = valid.map(|key| json!({ "containerID": key, "ifname": INSIDE }));
        let valid: Value = valid.collect();
        // The first is the specification's, the second is what its library wrote for a while.
        let more = [("cni.dev/valid-attachments", valid.clone()), ("cni.dev/attachments", valid)];
        let attachment = Attachment::of_nobody(network);
        for index in 0..attachment.network.kinds().len() {
            if let Err(error) = self.call(Verb::Gc, index, &attachment, None, &more).await {
                tracing::warn!(error = chain(&error), "let plugins clean up");
            }
        }
    }

    /// Whether a sandbox could be connected now.
    ///
    /// # Errors
    /// Why not, for people.
    pub(super) async fn ready(&self) -> Result<(), String> {
        let network = match config::load(&self.configs) {
            Ok(Some(network)) => network,
            Ok(None) => return Err(CniError::NoConfig.to_string()),
            Err(error) => return Err(chain(&error)),
        };
        for kind in network.kinds() {
            let program = self.programs.join(kind);
            if !program.exists() {
                return Err(format!(
                    "plugin {} of network {} is not there",
                    program.display(),
                    network.name
                ));
            }
        }
        if !network.allows(Verb::Status) {
            return Ok(());
        }
        let mut last = self.status.lock().await;
        if let Some(Status { at, of, said }) = &*last
            && *of == network
            && at.elapsed() < STATUS_AGE
        {
            return said.clone();
        }
        let attachment = Attachment::of_nobody(network.clone());
        let mut said = Ok(());
        for index in 0..network.kinds().len() {
            if let Err(error) = self.call(Verb::Status, index, &attachment, None, &[]).await {
                said = Err(chain(&error));
                break;
            }
        }
        *last = Some(Status { at: Instant::now(), of: network, said: said.clone() });
        said
    }

    /// Runs one plugin of the chain, and gives what it wrote.
    async fn call(
        &self,
        verb: Verb,
        index: usize,
        attachment: &Attachment,
        previous: Option<&Value>,
        more: &[(&str, Value)],
    ) -> Result<Vec<u8>, CniError> {
        let network = &attachment.network;
        let plugin = network.kinds().get(index).copied().unwrap_or_default().to_owned();
        let input = network.input(index, &attachment.capabilities, previous, more);
        let call = Call {
            program: self.programs.join(&plugin),
            environment: self.environment(verb, attachment),
            input: input.to_string().into_bytes(),
            limit: if verb == Verb::Status { STATUS_LIMIT } else { LIMIT },
            cgroup: self.cgroup.join("cgroup.procs"),
        };
        // Never closed.
        let _slot = self.calls.acquire().await;
        let answer = exec::run(call).await;
        let (verb, network) = (verb.name(), network.name.clone());
        let Answer { succeeded, stdout, stderr } =
            answer.map_err(|source| CniError::Exec { verb, network: network.clone(), source })?;
        if succeeded {
            return Ok(stdout);
        }
        let message = result::complaint(&stdout, &stderr);
        Err(CniError::Refused { verb, network, plugin, message })
    }

    fn environment(&self, verb: Verb, attachment: &Attachment) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("CNI_COMMAND", verb.name().to_owned()),
            ("CNI_PATH", self.programs.display().to_string()),
        ];
        if matches!(verb, Verb::Gc | Verb::Status) {
            return environment;
        }
        // After a reboot, or when somebody was quicker, there is nothing to enter; plugins then give back what they keep
        // outside of it.
        let there = attachment.namespace.exists();
        let namespace = if there || verb != Verb::Del {
            attachment.namespace.display().to_string()
        } else {
            String::new()
        };
        environment.extend([
            ("CNI_CONTAINERID", attachment.key.clone()),
            ("CNI_NETNS", namespace),
            ("CNI_IFNAME", INSIDE.to_owned()),
            ("CNI_ARGS", attachment.arguments.clone()),
        ]);
        environment
    }

    /// A group of their own for the plugins: what they take is not taken from the agent. Without it they still run.
    fn limit_plugins(&self) {
        if std::fs::create_dir(&self.cgroup).is_err() {
            return;
        }
        for (name, value) in CGROUP_LIMITS {
            if let Err(error) = std::fs::write(self.cgroup.join(name), value) {
                tracing::warn!(%error, name, "limit CNI plugins");
            }
        }
    }

    /// Waits for what is being done with a sandbox.
    async fn alone(&self, key: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            busy.entry(key.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }

    fn path(&self, key: &str) -> Result<PathBuf, CniError> {
        if !config::is_plain(key) {
            return Err(CniError::Key { key: key.to_owned() });
        }
        Ok(self.attachments.join(format!("{key}.json")))
    }

    /// Sandboxes that plugins did something for.
    pub(super) fn attached(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.attachments).into_iter().flatten().flatten();
        let name = |entry: std::fs::DirEntry| {
            Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned())
        };
        entries.filter_map(name).collect()
    }

    fn write(&self, attachment: &Attachment) -> Result<(), CniError> {
        let path = self.path(&attachment.key)?;
        // Plain data with string keys.
        let bytes = serde_json::to_vec(attachment).unwrap_or_default();
        Ok(durable::replace(&path, &bytes, Survives::Kill)?)
    }

    /// An attachment whose record a power cut tore: what can be known of it is in the configuration of today.
    fn guess(
        &self,
        key: &str,
        error: &serde_json::Error,
    ) -> Result<Option<Attachment>, ConfigError> {
        tracing::warn!(key, %error, "the record of an attachment is broken; plugins are asked to find what is left");
        let network = config::load(&self.configs)?;
        Ok(network
            .map(|network| Attachment { key: key.to_owned(), ..Attachment::of_nobody(network) }))
    }

    fn read(&self, key: &str) -> Result<Option<Attachment>, CniError> {
        let path = self.path(key)?;
        let failed = |source: std::io::Error| CniError::Read { path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(attachment) => Ok(Some(attachment)),
                Err(error) => self.guess(key, &error).map_err(CniError::Config),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Attachment {
    /// For questions about no sandbox.
    fn of_nobody(network: config::Network) -> Self {
        Self {
            key: String::new(),
            namespace: PathBuf::new(),
            network,
            arguments: String::new(),
            capabilities: Map::new(),
            result: None,
        }
    }
}

#[cfg(test)]
mod tests;
