//! Starting, adopting and ending runs: the part of the pod task that touches containers.

use ingot_images::Image;
use ingot_init_api::Exit;
use ingot_linux::process::Pidfd;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Ended, PodTask, configs, now_ms};
use crate::cgroup::{Cgroup, number_after};
use crate::container::{self, Built, ContainerError, Io, Stream};
use crate::durable::Survives;
use crate::event::{Reason, Severity};
use crate::image;
use crate::lifecycle;
use crate::logs::pump::Pump;
use crate::logs::writer::LogWriter;
use crate::pid1::Pid1Error;
use crate::record::{Run, RunPhase, Sandbox};
use crate::report::chain;
use crate::sandbox::{self, SandboxError};
use crate::status::ExitRecord;

/// Exit code of a run whose end nobody saw.
const UNKNOWN_EXIT: i32 = 255;

/// Whose memory limit was reached.
enum Limit {
    /// The container's.
    Own,
    /// The pod's, of so many bytes.
    Pod(String),
    /// Nobody's: the node had no more.
    Node,
}

/// Why a start failed: reason for the status, message, and the event.
struct Trouble {
    reason: &'static str,
    message: String,
    event: Reason,
}

impl Trouble {
    fn new(reason: &'static str, event: Reason, error: &dyn std::error::Error) -> Self {
        Self { reason, message: chain(error), event }
    }
}

impl PodTask {
    /// Starts a container, or notes why it cannot be started now.
    pub(super) async fn start(&mut self, index: usize) {
        let Some(name) = self.container(index).map(|c| c.name.clone()) else { return };
        let Err(trouble) = self.try_start(index).await else { return };
        let (boot_id, now) = (self.context.boot_id.clone(), now_ms());
        let Some(container) = self.record.containers.get_mut(index) else { return };
        lifecycle::start_failed(container, trouble.reason, &trouble.message, &boot_id, now);
        let wait_s = container.due_ms.saturating_sub(now) / 1000;
        self.save_or_log();
        let Trouble { event, message, .. } = trouble;
        let message = format!("{message}; next try in {wait_s} s");
        self.event(event, Severity::Warning, Some(&name), message);
    }

    async fn try_start(&mut self, index: usize) -> Result<(), Trouble> {
        let Some(wanted) = self.container(index).cloned() else { return Ok(()) };
        let image = image::find(&self.context.paths().images, &wanted.image)
            .map_err(|e| Trouble::new(e.reason(), Reason::ImageNotBundled, &e))?;
        self.ensure_sandbox().await?;
        let id = new_id().map_err(|e| start_error(&e))?;
        let boot_id = self.context.boot_id.clone();
        if let Some(container) = self.record.containers.get_mut(index) {
            lifecycle::begin(container, id.clone(), &boot_id);
        }
        self.record.save(&self.folder, Survives::Kill).map_err(|e| start_error(&e))?;
        self.publish();
        let result = self.bring_up(index, &image.stored(), &id).await;
        if result.is_err() {
            self.clean_up(&id).await;
        }
        result
    }

    /// From the record that says "creating" to a program that runs.
    async fn bring_up(&mut self, index: usize, image: &Image, id: &str) -> Result<(), Trouble> {
        let context = self.context.clone();
        let Some(wanted) = self.container(index).cloned() else { return Ok(()) };
        let pod = &self.record.pod;
        let run = self.record.containers.get(index).and_then(|c| c.run.as_ref());
        let attempt = run.map_or(0, |run| run.attempt);
        let volumes = self.folder.join("volumes");
        let memory = configs::node_memory_bytes();
        let config = configs::container(pod, &wanted, attempt, &volumes, memory)
            .map_err(|e| Trouble::new("CreateContainerConfigError", Reason::StartFailed, &e))?;
        let built = {
            // Closed only when the engine is gone.
            let _slot = context.builds.acquire().await;
            let sandbox = configs::sandbox(pod, &context.paths().logs);
            container::build(&context, &pod.uid, &sandbox, id, &config, image).await
        };
        let Built { pid, start_time, io, .. } = built.map_err(|e| build_error(&e))?;
        let Io::Pipes { stdout, stderr, .. } = io else {
            return Err(start_error(&std::io::Error::other("a terminal nobody asked for")));
        };
        let process = (pid, start_time);
        let exit = context.pid1.watch(process).await.map_err(|e| start_error(&e))?;
        let Some(container) = self.record.containers.get_mut(index) else { return Ok(()) };
        lifecycle::started(container, process.0, process.1, now_ms(), Timestamp::now());
        let attempt = container.attempts.saturating_sub(1);
        self.record.save(&self.folder, Survives::Kill).map_err(|e| start_error(&e))?;
        self.start_pump(index, id, attempt, stdout, stderr).map_err(|e| start_error(&e))?;
        self.expect_end(index, id.to_owned(), exit);
        // From here on the run counts; what goes wrong shows in its exit.
        if let Err(error) = container::start(&context, id).await {
            tracing::error!(id, error = chain(&error), "start container");
            self.kill_all();
        }
        let message = format!("started as process {}, attempt {attempt}", process.0);
        self.event(Reason::Started, Severity::Info, Some(&wanted.name), message);
        Ok(())
    }

    fn container(&self, index: usize) -> Option<&crate::pod::Container> {
        self.record.pod.all_containers().nth(index).map(|(container, _)| container)
    }

    fn start_pump(
        &mut self,
        index: usize,
        id: &str,
        attempt: u32,
        stdout: std::os::fd::OwnedFd,
        stderr: std::os::fd::OwnedFd,
    ) -> std::io::Result<()> {
        let name = self.container(index).map(|c| c.name.clone()).unwrap_or_default();
        let uid = &self.record.pod.uid;
        let paths = container::log_paths(&self.context, uid, &name, id, attempt);
        let writer = LogWriter::open(paths, self.context.config.log_limits)?;
        let written = self.context.log_signal(uid, &name);
        let pump = Pump::start(writer, stdout, stderr, written)?;
        if let Some(slot) = self.pumps.get_mut(index) {
            *slot = Some(pump);
        }
        Ok(())
    }

    /// Has the end of a run come in as a message. `None`: PID 1 does not know the process.
    fn expect_end(&self, container: usize, id: String, exit: Option<oneshot::Receiver<Exit>>) {
        let ended = self.ended_tx.clone();
        tokio::spawn(async move {
            let exit = match exit {
                Some(exit) => match exit.await {
                    Ok(exit) => Some(exit),
                    // The connection to PID 1 is gone; the next agent is told again.
                    Err(_) => return,
                },
                None => None,
            };
            // Fails only when the pod task is gone.
            let _ = ended.send(Ended { container, id, exit }).await;
        });
    }

    async fn ensure_sandbox(&mut self) -> Result<(), Trouble> {
        let boot_id = self.context.boot_id.clone();
        let uid = self.record.pod.uid.clone();
        let failed = |e: &dyn std::error::Error| {
            Trouble::new("FailedCreatePodSandBox", Reason::SandboxFailed, e)
        };
        let present = self.record.sandbox.as_ref();
        if let Some(sandbox) = present.filter(|s| s.ready && s.boot_id == boot_id) {
            // The node's resolvers may have changed since the last container started.
            let config = configs::sandbox(&self.record.pod, &self.context.paths().logs);
            return sandbox::write_etc(&self.context, &uid, &config, &sandbox.ips)
                .map_err(|e| failed(&e));
        }
        sandbox::tear_down(&self.context, &uid).await.map_err(|e| failed(&e))?;
        let ips = if self.record.pod.host_network {
            Vec::new()
        } else {
            self.context.network.lease(&uid).map_err(|e| failed(&e))?
        };
        self.record.sandbox = Some(Sandbox { boot_id, ready: false, ips: ips.clone() });
        self.record.save(&self.folder, Survives::Kill).map_err(|e| failed(&e))?;
        configs::make_volumes(&self.record.pod, &self.folder.join("volumes"))
            .map_err(|(path, source)| failed(&SandboxError::Prepare { path, source }))?;
        let config = configs::sandbox(&self.record.pod, &self.context.paths().logs);
        let ips = sandbox::build(&self.context, &uid, &config, &ips).await;
        let ips = ips.map_err(|e| failed(&e))?;
        if let Some(sandbox) = &mut self.record.sandbox {
            sandbox.ready = true;
            sandbox.ips = ips;
        }
        self.record.save(&self.folder, Survives::Kill).map_err(|e| failed(&e))
    }

    /// Takes over what a former agent left: runs that go on, and runs that ended meanwhile. Quick, because the engine waits.
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
                    let exit =
                        exit_record(&run, None, "NodeRebooted", "the node went down while it ran");
                    // PID 1 of this boot knows nothing of it: if it cannot be saved, the next agent does the same again.
                    self.record_end(index, &run.id, exit).await;
                    self.clean_up(&run.id).await;
                }
                // May take as long as the former agent's helper; see `roll_back_unfinished`.
                RunPhase::Creating => {}
            }
        }
        Ok(())
    }

    /// Undoes what a former agent had begun to start. The start is then planned again.
    pub(super) async fn roll_back_unfinished(&mut self) {
        for index in 0..self.record.containers.len() {
            let run = self.record.containers.get(index).and_then(|c| c.run.clone());
            if let Some(run) = run.filter(|run| run.phase == RunPhase::Creating) {
                self.give_up(index, &run).await;
            }
        }
    }

    async fn adopt_run(
        &mut self,
        index: usize,
        run: &Run,
        process: (i32, u64),
    ) -> Result<(), Pid1Error> {
        let context = self.context.clone();
        let exit = context.pid1.watch(process).await?;
        let fd = async |stream| -> Option<std::os::fd::OwnedFd> {
            let name = container::pipe_name(&run.id, stream).ok()?;
            context.pid1.get_fd(name).await.ok().flatten()
        };
        match (fd(Stream::Stdout).await, fd(Stream::Stderr).await) {
            (Some(stdout), Some(stderr)) => {
                if let Err(error) = self.start_pump(index, &run.id, run.attempt, stdout, stderr) {
                    tracing::error!(error = chain(&error), "take over container log");
                }
            }
            _ => tracing::error!(id = run.id, "PID 1 does not have the pipes of a container"),
        }
        self.expect_end(index, run.id.clone(), exit);
        // Perhaps the former agent was killed just before this.
        if let Err(error) = container::start(&context, &run.id).await {
            tracing::error!(id = run.id, error = chain(&error), "start adopted container");
        }
        Ok(())
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
        self.save_or_log();
    }

    /// A run ended. Steps, each repeated by the next agent if this one is killed before the last: drain the pipes, write
    /// the exit down for good, tell PID 1 to forget it, remove what is left.
    pub(super) async fn take_end(&mut self, ended: Ended) {
        let Ended { container: index, id, exit } = ended;
        let run = self.record.containers.get(index).and_then(|c| c.run.clone());
        // Told twice, as PID 1 repeats itself to be safe.
        let Some(run) = run.filter(|run| run.id == id) else { return };
        if let Some(pump) = self.pumps.get_mut(index).and_then(Option::take) {
            let dropped = pump.finish().await;
            if dropped > 0 {
                let name = self.container(index).map(|c| c.name.clone());
                let message = format!("{dropped} bytes of its output could not be written to VAR");
                self.event(Reason::LogsDropped, Severity::Warning, name.as_deref(), message);
            }
        }
        let pod_cgroup = Cgroup::of_pod(&self.context.paths().cgroup, &self.record.pod.uid);
        let events = pod_cgroup.of_container(&id).text("memory.events");
        let count = |key| number_after(&events, key).unwrap_or(0);
        let killed_for_memory = count("oom_kill") > 0;
        let whose_limit = if count("oom") > 0 {
            Limit::Own
        } else if number_after(&pod_cgroup.text("memory.events"), "oom").unwrap_or(0) > 0 {
            // The pod may hold no more than its containers together, and what it needs itself counts.
            Limit::Pod(pod_cgroup.text("memory.max").trim().to_owned())
        } else {
            Limit::Node
        };
        let record = match exit {
            Some(exit) => ended_record(&run, exit, killed_for_memory),
            None => exit_record(&run, None, "Unknown", "PID 1 does not know how it ended"),
        };
        self.announce_end(index, &record, killed_for_memory.then_some(whose_limit));
        let saved = self.record_end(index, &id, record).await;
        if let RunPhase::Started { pid, start_time } = run.phase
            && saved
            && let Err(error) = self.context.pid1.acknowledge_exit((pid, start_time)).await
        {
            // PID 1 tells the next agent again, which finds the exit recorded.
            tracing::warn!(error = chain(&error), "acknowledge exit");
        }
        self.clean_up(&id).await;
    }

    /// Writes an end down. False when the disk takes nothing, not even after the layer of the run, which may be what
    /// fills it, is gone: then PID 1 keeps the exit, and a next agent is told again. Waiting for the disk here would keep
    /// the pod from being removed, which is what an operator does about a full disk.
    async fn record_end(&mut self, index: usize, id: &str, exit: ExitRecord) -> bool {
        let boot_id = self.context.boot_id.clone();
        if let Some(container) = self.record.containers.get_mut(index) {
            lifecycle::ended(container, exit, &boot_id, now_ms());
        }
        for last in [false, true] {
            match self.record.save(&self.folder, Survives::PowerLoss) {
                Ok(()) => return true,
                Err(error) => tracing::error!(error = chain(&error), "save exit"),
            }
            if !last {
                self.clean_up(id).await;
            }
        }
        false
    }

    /// `killed`: the kernel killed in it for memory, and at whose limit.
    fn announce_end(&self, index: usize, exit: &ExitRecord, killed: Option<Limit>) {
        let Some(container) = self.container(index) else { return };
        let name = Some(container.name.as_str());
        if let Some(whose_limit) = killed {
            let limit = match (whose_limit, container.resources.memory_limit_bytes) {
                (Limit::Own, Some(bytes)) => format!("at its memory limit of {bytes} bytes"),
                (Limit::Pod(bytes), _) => format!("at its pod's memory limit of {bytes} bytes"),
                _ => "because the node was out of memory".to_owned(),
            };
            let message = format!(
                "container {} was killed {limit}, attempt {}",
                container.name, exit.attempt
            );
            self.event(Reason::OomKilled, Severity::Warning, name, message);
        }
        let severity = if exit.exit_code == 0 { Severity::Info } else { Severity::Warning };
        let message = format!(
            "ended with exit code {}, {}, attempt {}",
            exit.exit_code, exit.reason, exit.attempt
        );
        self.event(Reason::Died, severity, name, message);
    }

    /// SIGTERM to the first process of every container.
    pub(super) fn terminate_all(&self) {
        for (pid, start_time) in self.processes() {
            let signalled = Pidfd::open_exact(pid, start_time)
                .and_then(|process| process.signal(rustix::process::Signal::TERM));
            if let Err(error) = signalled {
                // It has just ended; its exit is on the way.
                tracing::debug!(pid, error = chain(&error), "terminate");
            }
        }
    }

    /// SIGKILL to everything in the pod.
    pub(super) fn kill_all(&self) {
        let cgroup = Cgroup::of_pod(&self.context.paths().cgroup, &self.record.pod.uid);
        if let Err(error) = cgroup.kill() {
            tracing::error!(error = chain(&error), "kill pod");
        }
    }

    fn processes(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        let runs = self.record.containers.iter().filter_map(|c| c.run.as_ref());
        runs.filter_map(|run| match run.phase {
            RunPhase::Started { pid, start_time } => Some((pid, start_time)),
            RunPhase::Creating => None,
        })
    }
}

fn start_error(error: &dyn std::error::Error) -> Trouble {
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

/// 64 hex digits nobody has used before.
fn new_id() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn ended_record(run: &Run, exit: Exit, killed_for_memory: bool) -> ExitRecord {
    let signal = exit.wait_status & 0x7f;
    let exit_code = if signal == 0 { (exit.wait_status >> 8) & 0xff } else { 128 + signal };
    let reason = match (exit_code, killed_for_memory) {
        (137, true) => "OOMKilled",
        (0, _) => "Completed",
        _ => "Error",
    };
    let ended_at = i128::from(exit.ended_at_ns);
    let finished_at = Timestamp::from_nanosecond(ended_at).unwrap_or_else(|_| Timestamp::now());
    ExitRecord { exit_code, signal, finished_at, ..exit_record(run, None, reason, "") }
}

fn exit_record(run: &Run, at: Option<Timestamp>, reason: &str, message: &str) -> ExitRecord {
    ExitRecord {
        id: run.id.clone(),
        attempt: run.attempt,
        exit_code: UNKNOWN_EXIT,
        signal: 0,
        reason: reason.to_owned(),
        message: message.to_owned(),
        started_at: run.started_at,
        finished_at: at.unwrap_or_else(Timestamp::now),
    }
}
