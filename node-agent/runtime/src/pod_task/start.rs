//! Starting a container: from a plan to a program that runs, each step written down before it is done.

use jiff::Timestamp;

use super::environment::Sources;
use super::live::{Happened, Images};
use super::{PodTask, configs, now_ms};
use crate::config::ContainerConfig;
use crate::container::{self, Built, ContainerError, Io};
use crate::durable::Survives;
use crate::event::{Reason, Severity};
use crate::io::{ContainerIo, IoOptions};
use crate::lifecycle;
use crate::logs::LogTarget;
use crate::report::chain;
use crate::run;

/// Why a start failed: reason for the status, message, and the event.
pub(super) struct Trouble {
    reason: &'static str,
    message: String,
    event: Reason,
}

impl Trouble {
    pub(super) fn new(reason: &'static str, event: Reason, error: &dyn std::error::Error) -> Self {
        Self { reason, message: chain(error), event }
    }
}

impl PodTask {
    /// Starts a container, or begins to fetch its images, or notes why it cannot be started now.
    pub(super) async fn start(&mut self, index: usize) {
        let images = match self.images(index) {
            Ok(Some(images)) => images,
            Ok(None) => return,
            Err(problem) => {
                self.image_failed(index, &problem);
                return self.save_or_log().await;
            }
        };
        let Err(trouble) = self.try_start(index, &images).await else { return };
        let (boot_id, now, name) = (self.context.boot_id.clone(), now_ms(), self.name(index));
        let Some(container) = self.container_mut(index) else { return };
        lifecycle::start_failed(container, trouble.reason, &trouble.message, &boot_id, now);
        let wait_s = container.due_ms.saturating_sub(now) / 1000;
        self.save_or_log().await;
        let Trouble { event, message, .. } = trouble;
        let message = format!("{message}; next try in {wait_s} s");
        self.event(event, Severity::Warning, Some(&name), message);
    }

    async fn try_start(&mut self, index: usize, images: &Images) -> Result<(), Trouble> {
        self.ensure_sandbox().await?;
        let id = run::new_id().map_err(|e| start_error(&e))?;
        self.ensure_volumes(&id).await?;
        let config = self.container_config(index, &id, images)?;
        let boot_id = self.context.boot_id.clone();
        if let Some(container) = self.container_mut(index) {
            lifecycle::begin(container, id.clone(), &boot_id);
            if let Some(run) = &mut container.run {
                run.image_id.clone_from(&images.own.id);
                run.mounted_image_ids =
                    images.mounted.iter().map(|(_, image)| image.id.clone()).collect();
            }
        }
        if let Some(live) = self.live.get_mut(index) {
            let all = images.mounted.iter().map(|(_, image)| image).chain([&images.own]);
            live.holds = all.filter_map(|image| self.context.images().hold(&image.id)).collect();
        }
        self.save(Survives::Kill).await.map_err(|e| start_error(&e))?;
        self.publish();
        let result = self.bring_up(index, &id, &config, images).await;
        if result.is_err() {
            self.clean_up(&id).await;
        }
        result
    }

    /// What the container is to be.
    fn container_config(
        &self,
        index: usize,
        id: &str,
        images: &Images,
    ) -> Result<ContainerConfig, Trouble> {
        let wrong = |e: &dyn std::error::Error| {
            Trouble::new("CreateContainerConfigError", Reason::StartFailed, e)
        };
        let pod = &self.pod;
        let Some(container) = pod.container(index) else {
            return Err(wrong(&std::io::Error::from(std::io::ErrorKind::NotFound)));
        };
        let surroundings = self.surroundings();
        let capacity = self.capacity();
        let sources =
            Sources { pod, surroundings: &surroundings, addresses: &self.addresses(), capacity };
        let parts = configs::Parts {
            attempt: self.record.containers.get(index).map_or(0, |c| c.attempts),
            environment: sources.environment(container).map_err(|e| wrong(&e))?,
            places: &configs::Places {
                on_disk: self.folder.join("volumes"),
                files: self.files_folder(),
                message: super::message::file(&self.folder, id),
            },
            first_user_id: self.first_user_id(),
            image_user: &images.own.config.user,
            node_memory_bytes: capacity.memory_bytes,
        };
        configs::container(pod, container, parts).map_err(|e| wrong(&e))
    }

    /// From the record that says "creating" to a program that runs.
    async fn bring_up(
        &mut self,
        index: usize,
        id: &str,
        config: &ContainerConfig,
        images: &Images,
    ) -> Result<(), Trouble> {
        let context = self.context.clone();
        let sandbox = self.sandbox_config();
        let built = {
            // Closed only when the engine is gone.
            let _slot = context.builds.acquire().await;
            let (uid, mounted) = (&self.pod.uid, images.mounted.clone());
            container::build_with(&context, uid, &sandbox, id, config, &images.own, mounted).await
        };
        let Built { pid, start_time, io, stop_signal, .. } = built.map_err(|e| build_error(&e))?;
        let exit = context.pid1.watch((pid, start_time)).await.map_err(|e| start_error(&e))?;
        let Some(container) = self.container_mut(index) else { return Ok(()) };
        lifecycle::running(container, (pid, start_time), stop_signal, now_ms(), Timestamp::now());
        let attempt = container.attempts.saturating_sub(1);
        // The exit of a run that is given up from here on is told to nobody: it is acknowledged as one nobody waits for.
        let begun = async {
            self.save(Survives::Kill).await.map_err(|e| start_error(&e))?;
            self.start_io(index, id, attempt, io).await.map_err(|e| start_error(&e))
        };
        if let Err(trouble) = begun.await {
            self.give_up_exit(id, (pid, start_time), exit);
            return Err(trouble);
        }
        self.expect_end(index, id.to_owned(), exit);
        // From here on the run counts; what goes wrong shows in its exit.
        if let Err(error) = container::start(&context, id).await {
            if let Some(live) = self.live.get_mut(index) {
                live.start_error = Some(chain(&error));
            }
            self.kill(index);
        }
        let message = format!("started as process {pid}, attempt {attempt}");
        let name = self.name(index);
        self.event(Reason::Started, Severity::Info, Some(&name), message);
        self.after_start(index, id).await;
        Ok(())
    }

    /// The hook after the start, then the probes.
    pub(super) async fn after_start(&mut self, index: usize, id: &str) {
        let post_start = self.pod.container(index).and_then(|c| c.lifecycle.post_start.clone());
        let Some(hook) = post_start else { return self.begin_probes(index).await };
        let helper = self.spawn_hook(index, id, hook, |index, id, result| Happened::PostStart {
            index,
            id,
            result,
        });
        if let Some(live) = self.live.get_mut(index) {
            live.post_start = Some(helper);
        }
    }

    async fn start_io(
        &mut self,
        index: usize,
        id: &str,
        attempt: u32,
        io: Io,
    ) -> std::io::Result<()> {
        let (target, options) = self.log_target(index, id, attempt);
        let written = self.context.log_signal(&self.pod.uid, &self.name(index));
        let io = ContainerIo::start(&self.context, id, io, target, options, Some(written)).await?;
        self.context.reach.register(id, io.clone());
        if let Some(live) = self.live.get_mut(index) {
            live.io = Some(io);
        }
        Ok(())
    }

    /// Where the log of a run goes, and how its descriptors are used.
    pub(super) fn log_target(
        &self,
        index: usize,
        id: &str,
        attempt: u32,
    ) -> (LogTarget, IoOptions) {
        let container = self.pod.container(index);
        let paths =
            container::log_paths(&self.context, &self.pod.uid, &self.name(index), id, attempt);
        let options = IoOptions { stdin_once: container.is_some_and(|c| c.stdin_once) };
        (LogTarget::Rotated(paths, self.context.config.log_limits), options)
    }
}

pub(super) fn start_error(error: &dyn std::error::Error) -> Trouble {
    Trouble::new("StartError", Reason::StartFailed, error)
}

fn build_error(error: &ContainerError) -> Trouble {
    let reason = match error {
        ContainerError::MemoryLimitTooSmall { .. } => "OOMKilled",
        ContainerError::Spec(_) => "CreateContainerConfigError",
        ContainerError::Build(_) => "CreateContainerError",
        _ => "StartError",
    };
    Trouble::new(reason, Reason::StartFailed, error)
}
