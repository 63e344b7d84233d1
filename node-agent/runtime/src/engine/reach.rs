//! Reaching into containers for an operator, whoever asked for them: the node's own pods and the sandboxes of the CRI in one list.
//!
//! It finds and hands over; it starts, stops and decides nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ingot_images::ImageStore;
use jiff::Timestamp;
use tokio::net::TcpStream;

use super::Engine;
use crate::cgroup::Cgroup;
use crate::exec::{self, Exec, ExecError, ExecSpec, Target};
use crate::io::{Attachment, ContainerIo};
use crate::pod::Source;
use crate::port_forward::{self, DialError};
use crate::sandboxes::{CallError, Container, ContainerPhase, Sandbox};
use crate::stats::{self, ContainerStats, StatsFilter};
use crate::status::{ContainerState, ContainerStatus, PodStatus};
use crate::{container, report, sandbox};

/// Least length of an abbreviated id: shorter ones are typing errors.
const ABBREVIATION_MIN: usize = 4;

/// Streams of the containers of the node's own pods, by id. Their pod tasks keep it.
#[derive(Default)]
pub(crate) struct Reach(Mutex<HashMap<String, ContainerIo>>);

impl Reach {
    /// A container runs, and these are its streams.
    pub(crate) fn register(&self, id: &str, io: ContainerIo) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), io);
    }

    /// It has ended.
    pub(crate) fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn find(&self, id: &str) -> Option<ContainerIo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

/// How a caller names a container: by its id or the beginning of it, else by its pod and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerName {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container; may be empty when the pod has one.
    pub container: String,
    /// When not empty, the others are not looked at.
    pub id: String,
}

/// How a caller names a pod: by its sandbox or the beginning of its id, else by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub pod: String,
    /// Id of the sandbox, or uid of the pod. When not empty, the others are not looked at.
    pub sandbox: String,
}

/// A container of any pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its id; empty before the first create.
    pub id: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// Who asked for it.
    pub source: Source,
    /// Image as it was written.
    pub image: String,
    /// How far it is.
    pub state: InfoState,
    /// First process; 0 when none.
    pub pid: i32,
    /// Start of the current or last run.
    pub started_at: Option<Timestamp>,
    /// Path of its cgroup below the mount; empty when it has none.
    pub cgroup: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Exit code of the last run that ended.
    pub exit_code: i32,
    /// Id of the sandbox, or uid of the pod.
    pub sandbox: String,
}

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoState {
    /// It will be made.
    Waiting,
    /// Its process waits to be started.
    Created,
    /// Its program runs.
    Running,
    /// It has ended.
    Ended,
}

/// The file system of a running container, as the container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// A folder that is the container's `/`. Paths below it may only be resolved with it as their root.
    pub path: PathBuf,
    /// User and group of its first process, in the node's ids.
    pub owner: (u32, u32),
}

/// Why something was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// No pod of that name.
    #[error("there is no pod {namespace}/{pod}")]
    NoPod {
        /// Namespace.
        namespace: String,
        /// Name.
        pod: String,
    },
    /// No container of that name or id.
    #[error("there is no container {name}")]
    NoContainer {
        /// As it was written.
        name: String,
    },
    /// Several have that name or begin that way.
    #[error("several containers fit {name}: {found}")]
    Ambiguous {
        /// As it was written.
        name: String,
        /// Which.
        found: String,
    },
    /// It does not run.
    #[error("container {name} does not run")]
    NotRunning {
        /// As it was written.
        name: String,
    },
    /// The program was not started.
    #[error("start the program")]
    Exec(#[source] ExecError),
    /// The streams could not be joined.
    #[error("attach to container {name}")]
    Attach {
        /// As it was written.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody answers on the port.
    #[error("connect to port {port} of the pod")]
    Dial {
        /// Which.
        port: u16,
        /// Why.
        #[source]
        source: DialError,
    },
    /// A sandbox of the CRI refused.
    #[error(transparent)]
    Sandbox(#[from] CallError),
    /// Its process could not be looked at.
    #[error("look at the process of container {name}")]
    Process {
        /// As it was written.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Engine {
    /// Images of the node.
    #[must_use]
    pub fn images(&self) -> &ImageStore {
        self.context.images()
    }

    /// All containers of all pods, the node's own first, sorted by pod.
    #[must_use]
    pub fn containers(&self) -> Vec<ContainerInfo> {
        let pods = self.snapshot();
        let own = pods.iter().flat_map(|pod| pod.containers.iter().map(|c| own_info(pod, c)));
        let mut all: Vec<ContainerInfo> = own.collect();
        let mut others: Vec<ContainerInfo> = Vec::new();
        for sandbox in self.sandboxes.list().iter().filter(|sandbox| sandbox.is_visible()) {
            others.extend(sandbox.containers.iter().map(|c| self.cri_info(sandbox, c)));
        }
        others.sort_by(|a, b| (&a.namespace, &a.pod).cmp(&(&b.namespace, &b.pod)));
        all.append(&mut others);
        all
    }

    /// The one container that is meant.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub fn find_container(&self, name: &ContainerName) -> Result<ContainerInfo, ReachError> {
        pick(self.containers(), name)
    }

    /// Starts a program in a container.
    ///
    /// # Errors
    /// When the container does not run, or the program cannot be started.
    pub async fn exec(&self, name: &ContainerName, spec: ExecSpec) -> Result<Exec, ReachError> {
        let found = self.running(name)?;
        if found.source == Source::Cri {
            return Ok(self.sandboxes.exec(&found.id, spec).await?);
        }
        let (process, cgroup) = self.process_of(&found)?;
        let target = Target { id: found.id, process, cgroup };
        exec::start(&self.context, target, spec).await.map_err(ReachError::Exec)
    }

    /// Joins the streams of a container.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn attach(
        &self,
        name: &ContainerName,
    ) -> Result<(ContainerIo, Attachment), ReachError> {
        let found = self.running(name)?;
        let io = if found.source == Source::Cri {
            self.sandboxes.streams(&found.id)?
        } else {
            let not_running = || ReachError::NotRunning { name: shown(name) };
            self.context.reach.find(&found.id).ok_or_else(not_running)?
        };
        let attach = |source| ReachError::Attach { name: shown(name), source };
        let attachment = io.attach().await.map_err(attach)?;
        Ok((io, attachment))
    }

    /// Connects to a port that a pod listens to on its loopback address.
    ///
    /// # Errors
    /// When there is no such pod, or nobody listens.
    pub async fn dial(&self, name: &PodName, port: u16) -> Result<TcpStream, ReachError> {
        let network = self.network_of(name)?;
        let dialled = port_forward::dial(network.as_deref(), port).await;
        dialled.map_err(|source| ReachError::Dial { port, source })
    }

    /// The file system of a running container.
    ///
    /// # Errors
    /// When it does not run.
    pub fn root(&self, name: &ContainerName) -> Result<Root, ReachError> {
        let found = self.running(name)?;
        let ((pid, _), _) = self.process_of(&found)?;
        let failed = |source| ReachError::Process { name: shown(name), source };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(failed)?;
        let owner =
            owner_of(&status).ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
        Ok(Root { path: PathBuf::from(format!("/proc/{pid}/root")), owner })
    }

    /// What containers of all pods use, with who asked for them and their ids.
    pub async fn stats_of_all(&self, filter: StatsFilter) -> Vec<(ContainerInfo, ContainerStats)> {
        let wanted = |info: &ContainerInfo| {
            info.pid > 0
                && !info.cgroup.is_empty()
                && (filter.namespace.is_empty() || filter.namespace == info.namespace)
                && (filter.pod.is_empty() || filter.pod == info.pod)
        };
        let mount = &self.context.paths().cgroup;
        let all = self.containers().into_iter().filter(wanted);
        all.filter_map(|info| {
            let names = [&info.namespace, &info.pod, &info.container].map(String::as_str);
            let stats = stats::read_cgroup(&cgroup_of(mount, &info)?, names);
            Some((info, stats))
        })
        .collect()
    }

    fn running(&self, name: &ContainerName) -> Result<ContainerInfo, ReachError> {
        let found = self.find_container(name)?;
        if found.state == InfoState::Running && found.pid > 0 {
            return Ok(found);
        }
        Err(ReachError::NotRunning { name: shown(name) })
    }

    /// The container's first process and its cgroup. It cannot be mistaken for another one: whatever has its number now is in
    /// the container's cgroup.
    fn process_of(&self, found: &ContainerInfo) -> Result<((i32, u64), PathBuf), ReachError> {
        let not_running = || ReachError::NotRunning { name: found.container.clone() };
        let mount = &self.context.paths().cgroup;
        let cgroup = cgroup_of(mount, found).ok_or_else(not_running)?;
        let start_time = ingot_linux::process::start_time(found.pid).map_err(|error| {
            tracing::debug!(error = report::chain(&error), "look at a container's process");
            not_running()
        })?;
        let processes = cgroup.text("cgroup.procs");
        if !processes.lines().any(|line| line.parse() == Ok(found.pid)) {
            return Err(not_running());
        }
        Ok(((found.pid, start_time), cgroup.path().to_owned()))
    }

    fn network_of(&self, name: &PodName) -> Result<Option<PathBuf>, ReachError> {
        let no_pod =
            || ReachError::NoPod { namespace: name.namespace.clone(), pod: name.pod.clone() };
        let by_id = name.sandbox.len() >= ABBREVIATION_MIN;
        let pods = self.snapshot();
        let own = pods.iter().find(|pod| {
            if by_id {
                pod.uid.starts_with(&name.sandbox)
            } else {
                pod.namespace == name.namespace && pod.name == name.pod
            }
        });
        if let Some(pod) = own {
            let path = || sandbox::namespaces(&self.context, &pod.uid).join("net");
            return Ok((!pod.host_network).then(path));
        }
        let ready = self.sandboxes.list();
        let mut ready = ready.iter().filter(|sandbox| sandbox.is_ready());
        let other = ready.find(|sandbox| {
            if by_id {
                sandbox.id.starts_with(&name.sandbox)
            } else {
                sandbox.config.namespace == name.namespace && sandbox.config.name == name.pod
            }
        });
        other.map(|sandbox| self.sandboxes.network_of(sandbox)).ok_or_else(no_pod)
    }

    fn cri_info(&self, sandbox: &Sandbox, of: &Container) -> ContainerInfo {
        let mount = &self.context.paths().cgroup;
        let cgroup = container::cgroup(&self.context, &sandbox.id, &sandbox.config, &of.id).ok();
        let cgroup = cgroup.as_ref().and_then(|c| c.path().strip_prefix(mount).ok());
        let cgroup = cgroup.filter(|_| of.process().is_some()).unwrap_or(Path::new(""));
        ContainerInfo {
            id: of.id.clone(),
            namespace: sandbox.config.namespace.clone(),
            pod: sandbox.config.name.clone(),
            container: of.config.name.clone(),
            source: Source::Cri,
            image: of.image.name.clone(),
            state: match of.phase {
                ContainerPhase::Creating => InfoState::Waiting,
                ContainerPhase::Created(_) => InfoState::Created,
                ContainerPhase::Running(_) => InfoState::Running,
                ContainerPhase::Exited => InfoState::Ended,
            },
            pid: of.process().map_or(0, |process| process.pid),
            started_at: of.started_at,
            cgroup: cgroup.display().to_string(),
            restarts: of.config.attempt,
            exit_code: of.exit.as_ref().map_or(0, |exit| exit.code),
            sandbox: sandbox.id.clone(),
        }
    }
}

fn own_info(pod: &PodStatus, container: &ContainerStatus) -> ContainerInfo {
    ContainerInfo {
        id: container.id.clone(),
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        container: container.name.clone(),
        source: pod.source,
        image: container.image.clone(),
        state: match container.state {
            ContainerState::Waiting => InfoState::Waiting,
            ContainerState::Running => InfoState::Running,
            ContainerState::Terminated => InfoState::Ended,
        },
        pid: container.pid,
        started_at: container.started_at,
        cgroup: container.cgroup.clone(),
        restarts: container.restarts,
        exit_code: container.exit_code,
        sandbox: pod.uid.clone(),
    }
}

/// Chooses by the rules of [`ContainerName`]. Of several runs of one container of a pod, the one that runs is meant.
fn pick(all: Vec<ContainerInfo>, name: &ContainerName) -> Result<ContainerInfo, ReachError> {
    let by_id = !name.id.is_empty();
    let fits = |info: &ContainerInfo| {
        if by_id {
            name.id.len() >= ABBREVIATION_MIN && info.id.starts_with(&name.id)
        } else {
            info.namespace == name.namespace
                && info.pod == name.pod
                && (name.container.is_empty() || info.container == name.container)
        }
    };
    let pod_is_there =
        all.iter().any(|info| info.namespace == name.namespace && info.pod == name.pod);
    let mut found: Vec<ContainerInfo> = all.into_iter().filter(fits).collect();
    if found.len() > 1 && !by_id && found.iter().any(|info| info.state == InfoState::Running) {
        found.retain(|info| info.state == InfoState::Running);
    }
    if found.len() > 1 {
        let found: Vec<&str> = found.iter().map(|info| info.container.as_str()).collect();
        return Err(ReachError::Ambiguous { name: shown(name), found: found.join(", ") });
    }
    found.pop().ok_or_else(|| {
        if by_id || pod_is_there {
            ReachError::NoContainer { name: shown(name) }
        } else {
            ReachError::NoPod { namespace: name.namespace.clone(), pod: name.pod.clone() }
        }
    })
}

fn shown(name: &ContainerName) -> String {
    if !name.id.is_empty() {
        return name.id.clone();
    }
    let ContainerName { namespace, pod, container, .. } = name;
    match container.as_str() {
        "" => format!("{namespace}/{pod}"),
        container => format!("{namespace}/{pod}/{container}"),
    }
}

/// The cgroup of a container that has one.
fn cgroup_of(mount: &Path, info: &ContainerInfo) -> Option<Cgroup> {
    Cgroup::below(mount, &format!("/{}", info.cgroup.trim_start_matches('/'))).ok()
}

/// Effective user and group in the text of `/proc/<pid>/status`.
fn owner_of(status: &str) -> Option<(u32, u32)> {
    let id = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Some((id("Uid:")?, id("Gid:")?))
}

#[cfg(test)]
mod tests;
