//! Hooks after the start and before the end of a container.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ingot_machine_config::v1::pod::Hook;

use super::PodTask;
use super::live::{Happened, Helper};
use crate::context::Context;
use crate::event::{Reason, Severity};
use crate::exec;
use crate::probe::{self, Question};
use crate::record::RunPhase;

/// How long a hook may take at most; the grace period ends a hook before the end sooner.
const HOOK_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// How long a hook that asks over the network may take.
const ASK_DEADLINE: Duration = Duration::from_secs(60);

/// What is needed to reach a running container.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) context: Arc<Context>,
    pub(super) target: exec::Target,
    /// The pod's address, or the node's own.
    pub(super) address: IpAddr,
}

impl PodTask {
    /// How to reach the present run of a container.
    pub(super) fn reach(&self, index: usize) -> Option<Reach> {
        let run = self.record.containers.get(index)?.run.as_ref()?;
        let RunPhase::Started { pid, start_time } = run.phase else { return None };
        let cgroup = crate::cgroup::Cgroup::of_pod(&self.context.paths().cgroup, &self.pod.uid);
        let cgroup = cgroup.of_container(&run.id).path().to_owned();
        Some(Reach {
            context: self.context.clone(),
            target: exec::Target { id: run.id.clone(), process: (pid, start_time), cgroup },
            address: self.addresses().first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1])),
        })
    }

    /// Has a hook carried out; its result comes as a message.
    pub(super) fn spawn_hook(
        &self,
        index: usize,
        id: &str,
        hook: Hook,
        message: fn(usize, String, Result<(), String>) -> Happened,
    ) -> Helper {
        let question = self.pod.container(index).and_then(|container| {
            Question::http(hook.http_get.as_ref(), container)
                .or_else(|| Question::tcp(hook.tcp_socket.as_ref(), container))
        });
        let (reach, happened, id) = (self.reach(index), self.happened_tx.clone(), id.to_owned());
        Helper::spawn(async move {
            let result = match reach {
                Some(reach) => carry_out(&reach, &hook, question).await,
                None => Err("the container does not run".to_owned()),
            };
            // Fails only when the pod task is gone.
            let _ = happened.send(message(index, id, result)).await;
        })
    }

    /// The hook after the start is over: the container has started, or is ended.
    pub(super) async fn take_post_start(
        &mut self,
        index: usize,
        id: &str,
        result: Result<(), String>,
    ) {
        if !self.is_current(index, id) {
            return;
        }
        if let Some(live) = self.live.get_mut(index) {
            live.post_start = None;
        }
        match result {
            Ok(()) => self.begin_probes(index).await,
            Err(message) => {
                let name = self.name(index);
                self.event(Reason::PostStartFailed, Severity::Warning, Some(&name), message);
                let message = "FailedPostStartHook";
                self.event(Reason::Killing, Severity::Info, Some(&name), message.to_owned());
                self.begin_stop(index, self.grace());
            }
        }
    }

    /// The pod's grace period.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_secs(self.pod.spec.termination_grace_period_seconds.into())
    }
}

async fn carry_out(reach: &Reach, hook: &Hook, question: Option<Question>) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        return execute(reach, &exec.command, HOOK_DEADLINE).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.into())).await;
        return Ok(());
    }
    match question {
        Some(question) => probe::ask(&question, reach.address, ASK_DEADLINE).await,
        None => Ok(()),
    }
}

/// Executes a command in the container; its output is the message when it fails.
pub(super) async fn execute(
    reach: &Reach,
    command: &[String],
    timeout: Duration,
) -> Result<(), String> {
    match exec::exec_sync(&reach.context, reach.target.clone(), command, Some(timeout)).await {
        Ok(output) if output.exit_code == 0 => Ok(()),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            Err(probe::shortened(&format!("exit code {}: {said}", output.exit_code)))
        }
        Err(error) => Err(probe::shortened(&crate::report::chain(&error))),
    }
}
