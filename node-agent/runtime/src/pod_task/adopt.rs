//! Taking over what a former agent left: runs that go on, runs that ended meanwhile, starts that were cut off.

use std::collections::HashSet;

use super::ending::cut_off;
use super::{PodTask, Survives, message};
use crate::container;
use crate::io::ContainerIo;
use crate::lifecycle;
use crate::pid1::Pid1Error;
use crate::record::{Run, RunPhase};
use crate::report::chain;

impl PodTask {
    /// Takes over runs. Quick, because the engine waits.
    ///
    /// # Errors
    /// When PID 1 does not say whether a run goes on. Taking that for its end would kill a living container.
    pub(crate) async fn adopt(&mut self) -> Result<(), Pid1Error> {
        for index in 0..self.record.containers.len() {
            let run = self.record.containers.get(index).and_then(|c| c.run.clone());
            let Some(run) = run else { continue };
            let current = run.boot_id == self.context.boot_id;
            match run.phase {
                RunPhase::Started { pid, start_time } if current => {
                    self.adopt_run(index, &run, (pid, start_time)).await?;
                }
                RunPhase::Started { .. } => {
                    // PID 1 of this boot knows nothing of it: if it cannot be saved, the next agent does the same again.
                    self.record_end(index, &run.id, cut_off(&run)).await;
                    self.clean_up(&run.id).await;
                }
                // May take as long as the former agent's helper; see `roll_back_unfinished`.
                RunPhase::Creating => {}
            }
        }
        Ok(())
    }

    async fn adopt_run(
        &mut self,
        index: usize,
        run: &Run,
        process: (i32, u64),
    ) -> Result<(), Pid1Error> {
        let context = self.context.clone();
        let exit = context.pid1.watch(process).await?;
        if let Some(live) = self.live.get_mut(index) {
            let all = run.mounted_image_ids.iter().chain([&run.image_id]);
            live.holds.extend(all.filter_map(|id| context.images().hold(id)));
        }
        let (target, options) = self.log_target(index, &run.id, run.attempt);
        let written = context.log_signal(&self.pod.uid, &self.name(index));
        match ContainerIo::adopt(&context, &run.id, target, options, Some(written)).await {
            Ok(Some(io)) => {
                context.reach.register(&run.id, io.clone());
                if let Some(live) = self.live.get_mut(index) {
                    live.io = Some(io);
                }
            }
            Ok(None) => {
                tracing::error!(id = run.id, "PID 1 does not have the pipes of a container")
            }
            Err(error) => tracing::error!(%error, "take over container log"),
        }
        self.expect_end(index, run.id.clone(), exit);
        // Perhaps the former agent was killed just before this.
        if let Err(error) = container::start(&context, &run.id).await {
            tracing::error!(id = run.id, error = chain(&error), "start adopted container");
        }
        Ok(())
    }

    /// Undoes what a former agent had begun to start, and begins again what only its memory had: hooks and probes.
    pub(super) async fn roll_back_unfinished(&mut self) {
        for index in 0..self.record.containers.len() {
            let run = self.record.containers.get(index).and_then(|c| c.run.clone());
            let Some(run) = run else { continue };
            match run.phase {
                RunPhase::Creating => self.give_up(index, &run).await,
                RunPhase::Started { .. } if run.started => self.has_started(index).await,
                RunPhase::Started { .. } => self.after_start(index, &run.id).await,
            }
        }
        let known: HashSet<String> = self
            .record
            .containers
            .iter()
            .filter_map(|c| c.run.as_ref())
            .map(|r| r.id.clone())
            .collect();
        let folder = self.folder.clone();
        // Fails only when the agent ends.
        let _ = tokio::task::spawn_blocking(move || message::sweep(&folder, &known)).await;
    }

    /// Rolls a half-begun run back; it never counted.
    async fn give_up(&mut self, index: usize, run: &Run) {
        if let Err(error) = container::roll_back(&self.context, &run.id).await {
            // What is left has a name nobody will use again; the sweep of the next agent tries once more.
            tracing::warn!(id = run.id, error = chain(&error), "roll back container");
        }
        if let Some(container) = self.record.containers.get_mut(index) {
            lifecycle::rolled_back(container);
        }
        if let Err(error) = self.save(Survives::Kill).await {
            tracing::error!(error = chain(&error), "save pod record");
        }
    }
}
