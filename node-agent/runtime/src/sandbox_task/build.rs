//! Making the sandbox itself, and changing its limits.

use super::{Ended, SandboxTask};
use crate::config::{NamespaceMode, Resources};
use crate::pid1::Pid1Error;
use crate::report::chain;
use crate::sandbox;
use crate::sandboxes::{CallError, Lifecycle, SandboxPhase};

impl SandboxTask {
    /// Makes the sandbox. On an error anything of it may exist.
    pub(super) async fn build(&mut self) -> Result<(), CallError> {
        let context = self.context.clone();
        let (id, config) = (self.sandbox.id.clone(), self.sandbox.config.clone());
        let save = |e: &dyn std::error::Error| CallError::failed("write the sandbox down", e);
        self.records.save(&self.sandbox).map_err(|e| save(&e))?;
        if config.namespaces.network != NamespaceMode::Node {
            let leased = context.network.lease_for_cri(&id);
            self.sandbox.ips =
                leased.map_err(|e| CallError::failed("find an address for the pod", &e))?;
            self.records.save(&self.sandbox).map_err(|e| save(&e))?;
        }
        let built = {
            // Closed only when the engine is gone.
            let _slot = context.builds.acquire().await;
            sandbox::build(&context, &id, &config, &self.sandbox.ips).await
        };
        self.sandbox.ips = built.map_err(|e| CallError::failed("make the sandbox", &e))?;
        self.sandbox.phase = SandboxPhase::Ready;
        self.records.save(&self.sandbox).map_err(|e| save(&e))?;
        let lives = self.watch_first_process().await;
        if !lives.map_err(|e| CallError::failed("watch the first process of the pod", &e))? {
            return Err(CallError::Failed("the first process of the pod has ended".to_owned()));
        }
        let view = self.publish();
        self.shared.tell(&id, Lifecycle::Created, view.clone());
        self.shared.tell(&id, Lifecycle::Started, view);
        Ok(())
    }

    /// Has the end of the process that a shared PID namespace depends on come in as a message. False when it has ended.
    ///
    /// # Errors
    /// When PID 1 does not answer.
    pub(super) async fn watch_first_process(&self) -> Result<bool, Pid1Error> {
        let (id, config) = (&self.sandbox.id, &self.sandbox.config);
        if !sandbox::shares_pids(config) {
            return Ok(true);
        }
        let Some(process) = sandbox::first_process(&self.context, id, config) else {
            return Ok(false);
        };
        let pid1 = self.context.pid1.clone();
        let Some(exit) = pid1.watch(process).await? else { return Ok(false) };
        let (id, ended) = (id.clone(), self.ended_tx.clone());
        tokio::spawn(async move {
            // An error: the connection to PID 1 is gone; the next agent looks again.
            let Ok(exit) = exit.await else { return };
            // Fails only when the task is gone, which then has no use for it.
            let _ = ended.send(Ended { id, exit: Some(exit) }).await;
            // Nothing is lost with it: whether the process lives is seen from its cgroup.
            if let Err(error) = pid1.acknowledge_exit(process).await {
                tracing::warn!(
                    error = chain(&error),
                    "acknowledge the end of a pod's first process"
                );
            }
        });
        Ok(true)
    }

    /// It could not be made: tells all who wait, and has what was made taken away. Until that is done the task goes on,
    /// but nobody finds it any more.
    pub(super) fn give_up(&mut self, error: &CallError) {
        tracing::warn!(id = self.sandbox.id, %error, "make sandbox");
        self.sandbox.phase = SandboxPhase::Removing;
        self.shared.forget(&self.sandbox);
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            command.refuse(error);
        }
    }

    /// Takes everything of the sandbox out of the kernel. No process of its containers runs.
    pub(super) async fn tear_down(&self) -> Result<(), CallError> {
        let id = &self.sandbox.id;
        let down = sandbox::tear_down(&self.context, id).await;
        down.map_err(|e| CallError::failed("take the sandbox apart", &e))?;
        self.context.network.release(id);
        Ok(())
    }

    /// Changes the limits of the pod where the runtime has set them; otherwise only remembers what the caller set.
    pub(super) fn update(&mut self, resources: &Resources) -> Result<(), CallError> {
        if !self.sandbox.is_ready() {
            return Err(CallError::WrongState("the sandbox is stopped".to_owned()));
        }
        let (id, config) = (&self.sandbox.id, &self.sandbox.config);
        let whole = self.sandbox.resources.whole(resources);
        sandbox::update(&self.context, id, config, &whole)
            .map_err(|e| CallError::failed("change the limits", &e))?;
        self.sandbox.resources = self.sandbox.resources.merged(resources);
        if let Err(error) = self.records.save(&self.sandbox) {
            tracing::error!(error = chain(&error), "save sandbox record");
        }
        self.publish();
        Ok(())
    }
}

impl super::Command {
    /// Answers with an error, whatever was asked for; removals of what never was succeed.
    pub(super) fn refuse(self, error: &CallError) {
        let error = error.clone();
        // Whoever asked may be gone.
        match self {
            Self::Ready { reply, .. } | Self::Create { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::Start { reply, .. }
            | Self::UpdateContainer { reply, .. }
            | Self::Update { reply, .. } => drop(reply.send(Err(error))),
            Self::StopContainer { reply, .. }
            | Self::RemoveContainer { reply, .. }
            | Self::Stop { reply }
            | Self::Remove { reply } => drop(reply.send(Ok(()))),
        }
    }
}
