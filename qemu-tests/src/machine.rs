//! The builder of a machine and the machine itself: what a test does to a node from outside. Knows QEMU and the API, no
//! suite.

mod builder;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use ingot_api::machine::v1::Stage;
use ingot_pki::Identity;

use builder::Directory;
pub(crate) use builder::scratch_folder;
pub use builder::{Firmware, MachineBuilder};

use crate::artifacts::Artifacts;
use crate::client::{self, Api};
use crate::console::Console;
use crate::credentials::Credentials;
use crate::disk::output;
use crate::qemu::args::{Description, RIGHT_TIME};
use crate::qemu::process::Process;
use crate::qemu::qmp::Qmp;
use crate::{evidence, wait};

/// From power-on to an answer of the API, in emulation on a busy host.
pub const BOOT_LIMIT: Duration = Duration::from_secs(240);
/// From the wish to stop until the power is off: the node's own deadlines plus emulation.
pub const STOP_LIMIT: Duration = Duration::from_secs(120);
/// From starting QEMU until it takes commands.
const START_LIMIT: Duration = Duration::from_secs(60);
/// One try to reach the API while waiting for it.
const TRY_LIMIT: Duration = Duration::from_secs(10);
/// Port of the API inside the guest.
pub const API_PORT: u16 = ingot_machine_config::v1::api::DEFAULT_PORT;
/// The address that QEMU gives to the card that leads outside, the only one that is not told its own.
pub const USER_NETWORK_CARD: &str = "52:54:00:12:34:56";

/// A machine: its disks and, while it is on, its QEMU. Dropped, it is off and its files are gone (unless it
/// [lives on](MachineBuilder::lives_on_in)).
#[derive(Debug)]
pub struct Machine {
    name: String,
    artifacts: Artifacts,
    console: Console,
    credentials: Rc<Credentials>,
    description: Description,
    port: u16,
    // Dropped in this order: first QEMU, then the files it uses.
    process: Option<Process>,
    qmp: Option<Qmp>,
    directory: Directory,
    _sockets: tempfile::TempDir,
}

impl Machine {
    /// Starts the description of a machine called `name` (also the name of its evidence folder).
    #[must_use]
    pub fn builder(artifacts: &Artifacts, name: &str) -> MachineBuilder {
        MachineBuilder::new(artifacts, name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its serial console, from the first power-on to now.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Whom the node trusts.
    #[must_use]
    pub fn credentials(&self) -> &Rc<Credentials> {
        &self.credentials
    }

    /// The port of 127.0.0.1 that leads to the node's API.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of 127.0.0.1 that leads to a [forwarded](MachineBuilder::forward) port of the guest.
    pub fn forwarded(&self, guest_port: u16) -> anyhow::Result<u16> {
        let mut forwards = self.description.forwards.iter();
        let found = forwards.find(|(_, guest)| *guest == guest_port);
        let (host, _) = found.with_context(|| format!("port {guest_port} is not forwarded"))?;
        Ok(*host)
    }

    /// The folder of its disks and logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// The boot disk: a qcow2 file, or a raw one once [flattened](Machine::flatten_disk).
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.description.disks[0].path
    }

    /// Id of the QEMU process, while the machine is on.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What it was built from.
    #[must_use]
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// Takes the CIDATA drive away; takes effect at the next power-on.
    pub fn detach_cidata(&mut self) {
        self.description.disks.truncate(1);
    }

    /// What the hardware clock says at the next power-on; nothing for the right time.
    pub fn set_hardware_clock(&mut self, time: Option<SystemTime>) -> anyhow::Result<()> {
        self.description.hardware_clock = match time {
            Some(time) => {
                jiff::Timestamp::try_from(time)?.strftime("%Y-%m-%dT%H:%M:%S").to_string()
            }
            None => RIGHT_TIME.to_owned(),
        };
        Ok(())
    }

    /// Turns the boot disk into one raw file, for [`crate::disk`]. The machine must be off.
    pub fn flatten_disk(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "the machine {} is on", self.name);
        let raw = self.directory.path.join("disk.raw");
        let disk = &mut self.description.disks[0];
        if disk.format == "raw" {
            return Ok(());
        }
        let mut command = self.artifacts.tools.qemu_img.command();
        output(command.args(["convert", "-O", "raw"]).arg(&disk.path).arg(&raw))?;
        fs_err::remove_file(&disk.path)?;
        disk.path = raw;
        disk.format = "raw";
        Ok(())
    }

    /// The control socket of its QEMU.
    pub fn qmp(&mut self) -> anyhow::Result<&mut Qmp> {
        self.qmp.as_mut().context("the machine is off")
    }

    /// Switches the machine on, with the disks as they are.
    pub async fn power_on(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "the machine {} is on already", self.name);
        let mut qemu = self.artifacts.tools.qemu.command();
        qemu.args(self.description.words());
        let log = self.directory.path.join("qemu.log");
        fs_err::write(self.directory.path.join("qemu-arguments.txt"), format!("{qemu:?}\n"))?;
        // A socket left by a killed QEMU would accept nobody.
        let _absent = fs_err::remove_file(&self.description.control_socket);
        let mut process = Process::start(&qemu, &log, self.directory.lives_on)?;
        let socket = self.description.control_socket.clone();
        let qmp = Qmp::connect(socket, &mut process, START_LIMIT).await;
        let qmp = qmp.with_context(|| {
            let words = fs_err::read_to_string(&log).unwrap_or_default();
            format!("QEMU did not start: {}", words.trim())
        });
        self.qmp = Some(qmp?);
        self.process = Some(process);
        Ok(())
    }

    /// The API as administrator. Nothing is sent yet.
    pub fn api(&self) -> anyhow::Result<Api> {
        self.api_as(Some(&self.credentials.admin))
    }

    /// The API as somebody else, or as nobody.
    pub fn api_as(&self, identity: Option<&Identity>) -> anyhow::Result<Api> {
        Ok(Api::new(client::channel(self.port, self.credentials.ca.certificate(), identity)?))
    }

    /// Waits until the API answers the administrator.
    pub async fn wait_api(&mut self) -> anyhow::Result<Api> {
        let name = format!("the API of machine {} to answer", self.name);
        let result = wait::until(&name, BOOT_LIMIT, async || {
            self.ensure_on()?;
            // A new channel each time: one that was made while the machine was off may wait for a lost packet.
            let mut api = self.api()?;
            tokio::time::timeout(TRY_LIMIT, api.version()).await??;
            Ok(Some(api))
        })
        .await;
        result.with_context(|| format!("end of the console:\n{}", self.console.tail(25)))
    }

    /// Waits until everything in the node's config is true.
    pub async fn wait_running(&mut self) -> anyhow::Result<Api> {
        let mut api = self.wait_api().await?;
        let name = format!("machine {} to reach the stage Running", self.name);
        wait::until(&name, BOOT_LIMIT, async || {
            let status = tokio::time::timeout(TRY_LIMIT, api.status()).await??;
            if status.stage() == Stage::Running {
                return Ok(Some(()));
            }
            let waiting: Vec<String> = status
                .conditions
                .iter()
                .filter(|condition| {
                    condition.state() != ingot_api::machine::v1::condition::State::Ok
                })
                .map(|condition| format!("{}: {}", condition.name, condition.message))
                .collect();
            bail!("stage {:?}; {}", status.stage(), waiting.join("; "))
        })
        .await?;
        Ok(api)
    }

    /// SIGKILL to the agent.
    pub async fn crash_agent(&mut self) -> anyhow::Result<()> {
        self.api()?.kill_service("ingotd").await
    }

    /// SIGKILL to QEMU: what was not flushed to the disk is lost.
    pub fn cut_power(&mut self) -> anyhow::Result<()> {
        self.qmp = None;
        self.process.take().context("the machine is off")?.kill()
    }

    /// Reboots by the API, and waits until the API answers again after it.
    pub async fn reboot(&mut self) -> anyhow::Result<Api> {
        let mut api = self.api()?;
        let before = api.status().await?.boot_id;
        api.reboot().await?;
        let name = format!("machine {} to come back from a reboot", self.name);
        wait::until(&name, BOOT_LIMIT, async || {
            self.ensure_on()?;
            let mut api = self.api()?;
            let now = tokio::time::timeout(TRY_LIMIT, api.status()).await??.boot_id;
            Ok((now != before).then_some(api))
        })
        .await
    }

    /// Powers off by the API, and waits until the power is off.
    pub async fn shutdown(&mut self) -> anyhow::Result<()> {
        let mut api = self.api()?;
        self.shutdown_by(&mut api).await
    }

    /// Like [`Machine::shutdown`], as a client that the machine's own credentials do not know.
    pub async fn shutdown_by(&mut self, api: &mut Api) -> anyhow::Result<()> {
        api.shutdown().await?;
        self.wait_off().await
    }

    /// Waits until the guest has switched the power off.
    pub async fn wait_off(&mut self) -> anyhow::Result<()> {
        let process = self.process.as_mut().context("the machine is off already")?;
        process
            .wait(STOP_LIMIT)
            .await
            .with_context(|| format!("machine {} does not switch off", self.name))?;
        self.process = None;
        self.qmp = None;
        Ok(())
    }

    /// Collects what is known about the machine in `target/evidence/<name>/`, and returns that folder.
    pub async fn keep_evidence(&mut self, test: &str, failure: &str) -> anyhow::Result<PathBuf> {
        let folder = evidence::folder(&self.artifacts.target, &self.name, test);
        let api = if self.process.is_some() { self.api().ok() } else { None };
        evidence::keep(&folder, &self.directory.path, self.qmp.as_ref(), api, failure).await?;
        Ok(folder)
    }

    fn ensure_on(&mut self) -> anyhow::Result<()> {
        let process = self.process.as_mut().context("the machine is off")?;
        if let Some(status) = process.ended()? {
            self.process = None;
            self.qmp = None;
            bail!("QEMU ended with {status}");
        }
        Ok(())
    }
}
