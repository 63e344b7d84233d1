//! Making and starting containers, and changing their limits.
//!
//! Order: record "being made", build, PID 1 watches its first process, record "made"; record "runs", start. Each step can be
//! repeated by the next agent.

use std::path::PathBuf;
use std::sync::Arc;

use ingot_images::Image;
use jiff::Timestamp;

use super::{Ended, Live, SandboxTask};
use crate::config::{ContainerConfig, Resources};
use crate::container::{self, Built};
use crate::io::{ContainerIo, IoOptions};
use crate::logs::LogTarget;
use crate::report::chain;
use crate::run;
use crate::sandboxes::{
    CallError, Container, ContainerPhase, ImageNames, Lifecycle, Process, SandboxPhase, User,
};

/// SIGTERM, when neither the caller nor the image says otherwise.
const STOP_SIGNAL: i32 = 15;

impl SandboxTask {
    /// Makes a container, or finds the one that an earlier call made.
    pub(super) async fn create(&mut self, config: ContainerConfig) -> Result<String, CallError> {
        if !self.sandbox.is_ready() {
            let message = format!("sandbox {} is not ready", self.sandbox.id);
            return Err(CallError::WrongState(message));
        }
        let same_name = |live: &&Live| {
            let other = &live.container.config;
            (&other.name, other.attempt) == (&config.name, config.attempt)
        };
        if let Some(live) = self.containers.iter().find(same_name) {
            let made = matches!(live.container.phase, ContainerPhase::Created(_));
            if made && *live.container.config == config {
                return Ok(live.container.id.clone());
            }
            let (name, attempt) = (&config.name, config.attempt);
            let message = format!(
                "container {name}, attempt {attempt} exists as {}; remove it or raise the attempt",
                live.container.id
            );
            return Err(CallError::Exists(message));
        }
        let image = self.image(&config.image)?;
        let mut mounted = Vec::new();
        for name in container::mounted_images(&config) {
            mounted.push((name.to_owned(), self.image(name)?));
        }
        let container = self.new_container(config, &image, &mounted)?;
        let id = container.id.clone();
        let failed = |e: &dyn std::error::Error| CallError::failed("write the container down", e);
        self.records.save_container(&container).map_err(|e| failed(&e))?;
        self.containers.push(Live::new(&self.context, Arc::new(container)));
        if let Err(error) = self.bring_up(&id, &image, mounted).await {
            self.undo(&id).await;
            return Err(error);
        }
        let view = self.publish();
        self.shared.tell(&id, Lifecycle::Created, view);
        Ok(id)
    }

    fn image(&self, name: &str) -> Result<Arc<Image>, CallError> {
        let found = self.context.images().find(name);
        found.ok_or_else(|| CallError::NoImage { image: name.to_owned() })
    }

    fn new_container(
        &self,
        config: ContainerConfig,
        image: &Image,
        mounted: &[(String, Arc<Image>)],
    ) -> Result<Container, CallError> {
        let mounted = mounted.iter().map(|(name, image)| (name.clone(), names(image, name)));
        let log_path = match &self.sandbox.config.log_directory {
            Some(folder) if !config.log_path.is_empty() => Some(folder.join(&config.log_path)),
            _ => None,
        };
        Ok(Container {
            id: run::new_id().map_err(|e| CallError::failed("draw an id", &e))?,
            sandbox_id: self.sandbox.id.clone(),
            image: names(image, &config.image),
            mounted: mounted.collect(),
            boot_id: self.context.boot_id.clone(),
            phase: ContainerPhase::Creating,
            created_at: Timestamp::now(),
            started_at: None,
            exit: None,
            user: None,
            stop_signal: config.stop_signal.unwrap_or(STOP_SIGNAL),
            log_path,
            resources: config.resources.clone(),
            removing: false,
            config: Arc::new(config),
        })
    }

    /// From the record that says "being made" to a first process that waits.
    async fn bring_up(
        &mut self,
        id: &str,
        image: &Image,
        mounted: Vec<(String, Arc<Image>)>,
    ) -> Result<(), CallError> {
        let context = self.context.clone();
        let (config, log_path) = {
            let container = &self.found(id)?.container;
            (container.config.clone(), container.log_path.clone())
        };
        let sandbox = self.sandbox.config.clone();
        let key = self.sandbox.id.clone();
        let built = {
            let _slot = context.builds.acquire().await;
            container::build_with(&context, &key, &sandbox, id, &config, image, mounted).await
        };
        let Built { pid, start_time, io, user, stop_signal } =
            built.map_err(|e| CallError::failed("build the container", &e))?;
        let exit = context.pid1.watch((pid, start_time)).await;
        let exit = exit.map_err(|e| CallError::failed("watch the container", &e))?;
        let live = self.found(id)?;
        live.change(|c| {
            c.phase = ContainerPhase::Created(Process { pid, start_time });
            c.user = Some(User { uid: user.uid, gid: user.gid, groups: user.groups });
            c.stop_signal = stop_signal;
        });
        let container = live.container.clone();
        let saved = self.records.save_container(&container);
        saved.map_err(|e| CallError::failed("write the container down", &e))?;
        let target = self.log_target(id, log_path);
        let options = IoOptions { stdin_once: config.stdin_once };
        let io = ContainerIo::start(&context, id, io, target, options, None).await;
        let io = io.map_err(|e| CallError::failed("open the log of the container", &e))?;
        self.shared.set_io(id, Some(io));
        self.expect_end(id, exit);
        Ok(())
    }

    pub(super) fn log_target(&self, id: &str, path: Option<PathBuf>) -> LogTarget {
        let scratch = container::RunPaths::new(&self.context, id).run;
        match path {
            Some(path) => LogTarget::File { path, scratch },
            None => LogTarget::Nowhere { scratch },
        }
    }

    pub(super) fn expect_end(
        &self,
        id: &str,
        exit: Option<tokio::sync::oneshot::Receiver<ingot_init_api::Exit>>,
    ) {
        let id = id.to_owned();
        run::expect_end(exit, self.ended_tx.clone(), |exit| Ended { id, exit });
    }

    /// Takes away what was made of a container that never counted.
    pub(super) async fn undo(&mut self, id: &str) {
        self.shared.set_io(id, None);
        if let Err(error) = container::roll_back(&self.context, id).await {
            // What is left has a name nobody will use again; the sweep of the next agent tries once more.
            tracing::warn!(id, error = chain(&error), "roll back container");
        }
        if let Err(error) = self.records.remove_container(id) {
            tracing::warn!(id, error = chain(&error), "remove container record");
        }
        self.containers.retain(|live| live.container.id != id);
    }

    /// Starts a container that waits.
    pub(super) async fn start(&mut self, id: &str) -> Result<(), CallError> {
        let ready = self.sandbox.phase == SandboxPhase::Ready;
        let live = self.found(id)?;
        let id = live.container.id.clone();
        let process = match live.container.phase {
            ContainerPhase::Created(process) if ready && live.stop.is_none() => process,
            ContainerPhase::Running(_) => {
                return Err(CallError::WrongState(format!("container {id} runs already")));
            }
            _ => {
                let message = format!("container {id} has ended, or its sandbox is stopped");
                return Err(CallError::WrongState(message));
            }
        };
        live.change(|c| {
            c.phase = ContainerPhase::Running(process);
            c.started_at = Some(Timestamp::now());
        });
        let container = live.container.clone();
        if let Err(error) = self.records.save_container(&container) {
            if let Some(live) = self.find(&id) {
                live.change(|c| {
                    c.phase = ContainerPhase::Created(process);
                    c.started_at = None;
                });
            }
            return Err(CallError::failed("write the start down", &error));
        }
        // From here on it counts; what goes wrong shows in its exit.
        let started = container::start(&self.context, &id).await;
        let view = self.publish();
        self.shared.tell(&id, Lifecycle::Started, view);
        if let Err(error) = started {
            let error = CallError::failed("start the container", &error);
            if let Some(live) = self.find(&id) {
                live.start_error = Some(error.to_string());
            }
            self.kill(&id);
            return Err(error);
        }
        Ok(())
    }

    /// Changes the limits of a container: all, or none.
    pub(super) fn update_container(
        &mut self,
        id: &str,
        resources: &Resources,
    ) -> Result<(), CallError> {
        let context = self.context.clone();
        let live = self.found(id)?;
        let id = live.container.id.clone();
        if live.container.process().is_none() {
            return Err(CallError::WrongState(format!("container {id} has ended")));
        }
        let whole = live.container.resources.whole(resources);
        container::update(&context, &id, &whole)
            .map_err(|e| CallError::failed("change the limits of the container", &e))?;
        let merged = live.container.resources.merged(resources);
        live.change(|c| c.resources = merged);
        let container = live.container.clone();
        if let Err(error) = self.records.save_container(&container) {
            tracing::error!(error = chain(&error), "save container record");
        }
        self.publish();
        Ok(())
    }
}

/// The names of an image that was asked for by `wanted`.
fn names(image: &Image, wanted: &str) -> ImageNames {
    let first = |names: &[String], otherwise: &str| {
        names.first().map_or_else(|| otherwise.to_owned(), Clone::clone)
    };
    ImageNames {
        id: image.id.clone(),
        name: first(&image.repo_tags, wanted),
        reference: first(&image.repo_digests, &image.id),
    }
}
