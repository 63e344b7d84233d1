//! Reaching into what runs: programs started in a container, its streams, ports of a sandbox, its log.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpStream;

use super::{CallError, Container, Sandbox, Sandboxes};
use crate::config::NamespaceMode;
use crate::engine::Subnet;
use crate::exec::{self, Exec, ExecError, ExecOutput, ExecSpec, Target};
use crate::io::ContainerIo;
use crate::report::chain;
use crate::{container, port_forward, sandbox};

impl Sandboxes {
    /// Starts a program in a container.
    ///
    /// # Errors
    /// When the container does not run, or the program cannot be started.
    pub async fn exec(&self, id: &str, spec: ExecSpec) -> Result<Exec, CallError> {
        let target = self.target(id)?;
        exec::start(&self.shared.context, target, spec).await.map_err(|e| exec_error(&e))
    }

    /// Starts a program in a container and waits for its end, at most `limit`; then it is killed.
    ///
    /// # Errors
    /// When the container does not run, the program cannot be started, or takes too long.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        limit: Duration,
    ) -> Result<ExecOutput, CallError> {
        let target = self.target(id)?;
        let output = exec::exec_sync(&self.shared.context, target, &command, Some(limit)).await;
        output.map_err(|e| exec_error(&e))
    }

    /// The streams of a container that runs.
    ///
    /// # Errors
    /// When it does not run.
    pub fn streams(&self, id: &str) -> Result<ContainerIo, CallError> {
        let (_, container) = self.running(id)?;
        self.shared.io(&container.id).ok_or_else(|| {
            CallError::WrongState(format!("the streams of container {id} are closed"))
        })
    }

    /// Goes on in a new log file after the old one was renamed.
    ///
    /// # Errors
    /// When the container does not run, or there is no new file; then none was made.
    pub async fn reopen_log(&self, id: &str) -> Result<(), CallError> {
        let io = self.streams(id)?;
        io.reopen_log().await.map_err(|e| CallError::failed("open a new log file", &e))
    }

    /// Connects to a port that a sandbox listens to on its loopback address.
    ///
    /// # Errors
    /// When there is no such sandbox, or nobody listens.
    pub async fn dial(&self, id: &str, port: u16) -> Result<TcpStream, CallError> {
        let found = self.find(id).filter(|sandbox| sandbox.is_ready());
        let found = found.ok_or_else(|| CallError::NoSandbox { id: id.to_owned() })?;
        let network = self.network_of(&found);
        let dialled = port_forward::dial(network.as_deref(), port).await;
        dialled.map_err(|e| CallError::failed("forward the port", &e))
    }

    /// Where the network namespace of a sandbox is pinned; `None` with the node's.
    #[must_use]
    pub fn network_of(&self, sandbox: &Sandbox) -> Option<PathBuf> {
        let own = sandbox.config.namespaces.network != NamespaceMode::Node;
        own.then(|| sandbox::namespaces(&self.shared.context, &sandbox.id).join("net"))
    }

    /// Whether pods can be connected to the network now; if not, why.
    ///
    /// # Errors
    /// The reason, for a person.
    pub async fn network_ready(&self) -> Result<(), String> {
        self.shared.context.network.ready().await.map_err(|e| chain(&e))
    }

    /// Ranges from which sandboxes get their addresses from now on, at most one for each IP version.
    ///
    /// # Errors
    /// When they cannot be written down.
    pub async fn set_pod_ranges(&self, ranges: Vec<Subnet>) -> Result<(), CallError> {
        let set = self.shared.context.network.set_pod_cidrs(ranges).await;
        set.map_err(|e| CallError::failed("take the addresses for pods", &e))
    }

    /// Facts about the runtime for people and scripts. No promise is made about fields.
    #[must_use]
    pub fn info(&self) -> serde_json::Value {
        let paths = self.shared.context.paths();
        let sandboxes = self.list();
        serde_json::json!({
            "bootId": self.shared.context.boot_id,
            "stateDirectory": paths.run,
            "rootDirectory": paths.var,
            "helper": paths.runc,
            "sandboxes": sandboxes.len(),
            "containers": sandboxes.iter().map(|sandbox| sandbox.containers.len()).sum::<usize>(),
        })
    }

    fn running(
        &self,
        id: &str,
    ) -> Result<(std::sync::Arc<Sandbox>, std::sync::Arc<Container>), CallError> {
        let found = self.find_container(id);
        let found = found.ok_or_else(|| CallError::NoContainer { id: id.to_owned() })?;
        if found.1.is_running() {
            return Ok(found);
        }
        Err(CallError::WrongState(format!("container {} does not run", found.1.id)))
    }

    fn target(&self, id: &str) -> Result<Target, CallError> {
        let (sandbox, container) = self.running(id)?;
        let process = container.process();
        let process = process.ok_or_else(|| CallError::NoContainer { id: id.to_owned() })?;
        let context = &self.shared.context;
        let cgroup = container::cgroup(context, &sandbox.id, &sandbox.config, &container.id);
        let cgroup = cgroup.map_err(|e| CallError::failed("find the container", &e))?;
        Ok(Target {
            id: container.id.clone(),
            process: process.into(),
            cgroup: cgroup.path().to_owned(),
        })
    }
}

fn exec_error(error: &ExecError) -> CallError {
    match error {
        ExecError::TimedOut { .. } => CallError::TooLong(error.to_string()),
        ExecError::Ending => CallError::Ending,
        _ => CallError::failed("run the program", error),
    }
}
