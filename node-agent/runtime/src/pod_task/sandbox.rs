//! The pod's sandbox and volumes: made before a container, kept up to date while it runs.

use std::net::IpAddr;
use std::sync::Arc;

use ingot_machine_config::v1::pod::PodSpec;

use super::environment::{Capacity, Missing, Sources};
use super::files::{self, Owner};
use super::start::Trouble;
use super::volumes::{SetUp, VolumeError};
use super::{PodTask, configs};
use crate::config::SandboxConfig;
use crate::durable::Survives;
use crate::event::{Reason, Severity};
use crate::record::Sandbox;
use crate::report::chain;
use crate::sandbox;
use crate::surroundings::Surroundings;

impl PodTask {
    /// The pod's sandbox in this boot, when it is complete.
    fn sandbox(&self) -> Option<&Sandbox> {
        self.record.sandbox.as_ref().filter(|s| s.ready && s.boot_id == self.context.boot_id)
    }

    /// Addresses at which the pod is reached.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        if self.pod.spec.host_network {
            return self.surroundings().node.addresses.clone();
        }
        self.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }

    /// What the config gives to pods; nothing before the engine was told.
    pub(super) fn surroundings(&self) -> Arc<Surroundings> {
        self.surroundings.borrow().clone().unwrap_or_default()
    }

    /// Whether no container may be started because nobody has told yet which pods are wanted and what the config gives to
    /// them: for a moment after each start of the agent. A pod that runs in this boot goes on meanwhile; one of an earlier
    /// boot may be wanted no more, or not be allowed to run with the clock of this one.
    pub(super) fn waits_to_be_told(&self) -> bool {
        let present = self.record.sandbox.as_ref();
        let of_this_boot = present.is_some_and(|one| one.boot_id == self.context.boot_id);
        self.surroundings.borrow().is_none() && (asks(&self.pod.spec) || !of_this_boot)
    }

    /// What the sandbox is to be.
    pub(super) fn sandbox_config(&self) -> SandboxConfig {
        let paths = self.context.paths();
        let resolver = paths.run.join("etc/resolv.conf");
        configs::sandbox(
            &self.pod,
            &configs::Node {
                logs: &paths.logs,
                // A node without a resolver yet gives its pods none.
                resolver: &std::fs::read_to_string(resolver).unwrap_or_default(),
                first_user_id: self.first_user_id(),
            },
        )
    }

    pub(super) fn first_user_id(&self) -> Option<u32> {
        self.record.sandbox.as_ref().and_then(|sandbox| sandbox.first_user_id)
    }

    /// Makes the sandbox, where there is none.
    pub(super) async fn ensure_sandbox(&mut self) -> Result<(), Trouble> {
        let uid = self.record.pod.uid.clone();
        let failed = |e: &dyn std::error::Error| {
            Trouble::new("FailedCreatePodSandBox", Reason::SandboxFailed, e)
        };
        if self.sandbox().is_some() && self.has_lost_its_first_process() {
            let message = "its first process was ended, and every process with it; it is made anew";
            self.event(Reason::SandboxFailed, Severity::Warning, None, message.to_owned());
            self.record.sandbox = None;
        }
        if let Some(present) = self.sandbox() {
            // The node's resolvers may have changed since the last container started.
            let config = self.sandbox_config();
            return sandbox::write_etc(&self.context, &uid, &config, &present.ips)
                .map_err(|e| failed(&e));
        }
        sandbox::tear_down(&self.context, &uid).await.map_err(|e| failed(&e))?;
        let ips = if self.pod.spec.host_network {
            Vec::new()
        } else {
            self.context.network.lease(&uid).map_err(|e| failed(&e))?
        };
        let own_ids = !self.pod.spec.host_users;
        let first_user_id = if own_ids {
            Some(self.context.user_ids.lease(&uid).map_err(|e| failed(&e))?)
        } else {
            None
        };
        let boot_id = self.context.boot_id.clone();
        self.record.sandbox =
            Some(Sandbox { boot_id, ready: false, ips: ips.clone(), first_user_id });
        self.save(Survives::Kill).await.map_err(|e| failed(&e))?;
        let config = self.sandbox_config();
        let ips = sandbox::build(&self.context, &uid, &config, &ips).await;
        let ips = ips.map_err(|e| failed(&e))?;
        if let Some(sandbox) = &mut self.record.sandbox {
            sandbox.ready = true;
            sandbox.ips = ips;
        }
        self.save(Survives::Kill).await.map_err(|e| failed(&e))
    }

    /// Whether no process can be made any more in the PID namespace that its containers share.
    fn has_lost_its_first_process(&self) -> bool {
        let config = self.sandbox_config();
        sandbox::shares_pids(&config)
            && sandbox::first_process(&self.context, &self.record.pod.uid, &config).is_none()
    }

    /// Makes the volumes, and the file for the last words of the run `id`.
    pub(super) async fn ensure_volumes(&self, id: &str) -> Result<(), Trouble> {
        let mount = |e: &dyn std::error::Error| {
            Trouble::new("CreateContainerConfigError", Reason::MountFailed, e)
        };
        let mut set_up = self.set_up().map_err(|e| mount(&e))?;
        set_up.message = Some(super::message::file(&self.folder, id));
        let made = tokio::task::spawn_blocking(move || set_up.make());
        // The runtime is going away with the agent.
        made.await.unwrap_or(Ok(())).map_err(|e| mount(&e))
    }

    /// Brings the files of volumes in line with the config, when the pod has a sandbox.
    pub(super) async fn refresh_files(&mut self) {
        // Marks it as seen.
        drop(self.surroundings.borrow_and_update().clone());
        if self.sandbox().is_none() || self.waits_to_be_told() || self.record.removing {
            return;
        }
        let result = match self.set_up() {
            Ok(set_up) if set_up.files.is_empty() => return,
            Ok(set_up) => {
                let written = tokio::task::spawn_blocking(move || set_up.write_files());
                written.await.unwrap_or(Ok(())).map_err(|e: VolumeError| chain(&e))
            }
            Err(missing) => Err(chain(&missing)),
        };
        if let Err(message) = result {
            self.event(Reason::MountFailed, Severity::Warning, None, message);
        }
    }

    fn set_up(&self) -> Result<SetUp, Missing> {
        let surroundings = self.surroundings();
        let sources = Sources {
            pod: &self.pod,
            surroundings: &surroundings,
            addresses: &self.addresses(),
            capacity: self.capacity(),
        };
        let mut with_files = Vec::new();
        for volume in &self.pod.spec.volumes {
            if let Some(files) = files::of(volume, &sources)? {
                with_files.push((volume.name.clone(), files));
            }
        }
        Ok(SetUp {
            on_disk: self.folder.join("volumes"),
            in_files: self.files_folder(),
            files: with_files,
            // Inside of a user namespace the mounts map the ids.
            owner: Owner { root: 0, group: self.pod.spec.security_context.fs_group },
            message: None,
            spec: self.pod.spec.clone(),
            source: self.pod.source,
        })
    }

    /// Folder of the volumes made of files, on the tmpfs of /run.
    pub(super) fn files_folder(&self) -> std::path::PathBuf {
        self.context.pod_run(&self.pod.uid).join("files")
    }

    /// What the node has.
    pub(super) fn capacity(&self) -> Capacity {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let storage = rustix::fs::statvfs(&self.context.paths().var);
        Capacity {
            cpu_millis: u64::try_from(cpus).unwrap_or(1) * 1000,
            memory_bytes: node_memory_bytes(),
            storage_bytes: storage.map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize)),
        }
    }
}

/// Whether a pod asks for anything that the config gives.
fn asks(spec: &PodSpec) -> bool {
    let containers = spec.init_containers.iter().chain(&spec.containers);
    let mut variables = containers.clone().flat_map(|c| &c.env);
    let in_volumes = spec.volumes.iter().any(|volume| {
        volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some()
    });
    let mut from = containers.map(|c| !c.env_from.is_empty());
    in_volumes
        || !spec.image_pull_secrets.is_empty()
        || variables.any(|variable| variable.value_from.is_some())
        || from.any(|from| from)
}

/// Memory of the node; 0 when /proc does not say.
fn node_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}
