//! Taking over what a former agent, or a former boot, left of a sandbox.

use ingot_init_api::Exit;
use tokio::sync::oneshot;

use super::SandboxTask;
use crate::config::NamespaceMode;
use crate::container;
use crate::io::{ContainerIo, IoOptions};
use crate::pid1::Pid1Error;
use crate::report::chain;
use crate::run::Ending;
use crate::sandboxes::{Container, ContainerPhase, SandboxPhase};

impl SandboxTask {
    /// Whether the sandbox was made in this boot.
    fn is_current(&self) -> bool {
        self.sandbox.boot_id == self.context.boot_id
    }

    /// Ids of its containers.
    pub(crate) fn container_ids(&self) -> impl Iterator<Item = &str> {
        self.containers.iter().map(|live| live.container.id.as_str())
    }

    /// Puts things in order before anybody is served. Quick, because everybody waits.
    ///
    /// # Errors
    /// When PID 1 does not say whether a container goes on. Taking that for its end would kill a living one.
    pub(crate) async fn adopt(&mut self) -> Result<(), Pid1Error> {
        let phase = match self.sandbox.phase {
            // It never counted, so nobody knows it.
            SandboxPhase::Creating => SandboxPhase::Removing,
            SandboxPhase::Ready if !self.is_current() => SandboxPhase::NotReady,
            SandboxPhase::Ready if !self.watch_first_process().await? => SandboxPhase::NotReady,
            phase => phase,
        };
        if phase != self.sandbox.phase {
            self.sandbox.phase = phase;
            if let Err(error) = self.records.save(&self.sandbox) {
                tracing::error!(error = chain(&error), "save sandbox record");
            }
        }
        let config = &self.sandbox.config;
        // One that was stopped has given back what it had.
        if phase == SandboxPhase::Ready && config.namespaces.network != NamespaceMode::Node {
            self.context.network.adopt(&self.sandbox.id, &self.sandbox.ips, &config.ports);
        }
        let containers: Vec<_> = self.containers.iter().map(|l| l.container.clone()).collect();
        for container in containers {
            self.adopt_container(&container).await?;
        }
        self.publish();
        Ok(())
    }

    async fn adopt_container(&mut self, container: &Container) -> Result<(), Pid1Error> {
        let Some(process) = container.process() else { return Ok(()) };
        if container.boot_id != self.context.boot_id {
            let message = "the node went down before it ended";
            self.record_end(&container.id, &Ending::unknown(), message);
            return Ok(());
        }
        let exit = self.context.pid1.watch(process.into()).await?;
        self.go_on(container, exit).await;
        Ok(())
    }

    async fn go_on(&mut self, container: &Container, exit: Option<oneshot::Receiver<Exit>>) {
        let id = &container.id;
        let target = self.log_target(id, container.log_path.clone());
        let options = IoOptions { stdin_once: container.config.stdin_once };
        match ContainerIo::adopt(&self.context, id, target, options, None).await {
            Ok(Some(io)) => drop(self.shared.set_io(id, Some(io))),
            Ok(None) => tracing::error!(id, "PID 1 does not have the pipes of a container"),
            Err(error) => tracing::error!(id, error = chain(&error), "take over container output"),
        }
        self.expect_end(id, exit);
        // Perhaps the former agent was killed just before this.
        if container.is_running()
            && let Err(error) = container::start(&self.context, id).await
        {
            tracing::error!(id, error = chain(&error), "start adopted container");
        }
    }

    /// Takes away what a former agent had begun to make and nobody knows of. May take as long as its helper.
    pub(super) async fn undo_unfinished(&mut self) {
        let unfinished = |live: &&super::Live| live.container.phase == ContainerPhase::Creating;
        let ids: Vec<String> =
            self.containers.iter().filter(unfinished).map(|l| l.container.id.clone()).collect();
        for id in ids {
            self.undo(&id).await;
        }
    }
}
