//! The builder of a machine and the machine itself: what a test does to a node from outside. Knows QEMU and the API, no
//! suite.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ingot_api::machine::v1::Stage;
use ingot_pki::Identity;

use crate::artifacts::Artifacts;
use crate::client::{self, Api};
use crate::console::Console;
use crate::credentials::Credentials;
use crate::disk::output;
use crate::qemu::args::{Accelerator, Clock, Description, Disk, Start};
use crate::qemu::process::Process;
use crate::qemu::qmp::Qmp;
use crate::{cidata, evidence, ports, wait};

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

/// How a machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// UEFI, from the disk image: what a user's machine does.
    Ovmf,
    /// Kernel and initrd handed over by QEMU: saves the seconds that firmware costs in emulation.
    Direct,
}

/// What a machine is to be. Every choice has a default.
#[derive(Debug)]
pub struct MachineBuilder {
    artifacts: Artifacts,
    name: String,
    memory_mib: u32,
    processors: u32,
    firmware: Firmware,
    clock: Clock,
    config: Option<String>,
    command_line_extra: String,
    command_line_replaced: Option<(String, String)>,
    disk_gib: u32,
    credentials: Option<Rc<Credentials>>,
    directory: Option<PathBuf>,
}

impl MachineBuilder {
    /// Memory in MiB; 512 when not said.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// Processors; 2 when not said.
    #[must_use]
    pub fn processors(mut self, processors: u32) -> Self {
        self.processors = processors;
        self
    }

    /// How it starts; from the disk by UEFI when not said.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// What its clocks follow; the host's when not said.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Attaches a `CIDATA` drive with this machine config.
    #[must_use]
    pub fn cidata(mut self, config: impl Into<String>) -> Self {
        self.config = Some(config.into());
        self
    }

    /// More words for the kernel command line; for direct boots only.
    #[must_use]
    pub fn cmdline_extra(mut self, words: &str) -> Self {
        self.command_line_extra = words.to_owned();
        self
    }

    /// Another value for a word of the kernel command line, e.g. `("ingot.verity=", "eio")`; for direct boots only.
    #[must_use]
    pub fn cmdline_replace(mut self, name: &str, value: &str) -> Self {
        self.command_line_replaced = Some((name.to_owned(), value.to_owned()));
        self
    }

    /// Size of the disk in GiB; 4 when not said.
    #[must_use]
    pub fn disk_gib(mut self, disk_gib: u32) -> Self {
        self.disk_gib = disk_gib;
        self
    }

    /// Whom the node trusts; a new authority when not said.
    #[must_use]
    pub fn credentials(mut self, credentials: Rc<Credentials>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Keeps the machine's files in `directory` and lets the machine live on when this program ends. What was there is
    /// replaced.
    #[must_use]
    pub fn lives_on_in(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Makes the disks and switches the machine on. Returns at once; see [`Machine::wait_running`].
    pub async fn boot(self) -> anyhow::Result<Machine> {
        let mut machine = self.build()?;
        machine.power_on().await?;
        Ok(machine)
    }

    /// Makes the disks and leaves the machine off.
    pub fn build(self) -> anyhow::Result<Machine> {
        let directory =
            Directory::make(&self.artifacts.target, self.directory.as_deref(), &self.name)?;
        let at = |name: &str| directory.path.join(name);
        let start = self.start(&directory.path)?;
        let mut disks = vec![Disk { path: at("disk.qcow2"), format: "qcow2", read_only: false }];
        make_overlay(&self.artifacts, &disks[0].path, self.disk_gib)?;
        if let Some(config) = &self.config {
            cidata::write(&at("cidata.img"), config)?;
            disks.push(Disk { path: at("cidata.img"), format: "raw", read_only: true });
        }
        let sockets = tempfile::Builder::new()
            .prefix("ingot-qmp-")
            .tempdir()
            .context("make a socket directory")?;
        let port = ports::free()?;
        let description = Description {
            accelerator: Accelerator::detect(),
            clock: self.clock,
            memory_mib: self.memory_mib,
            processors: self.processors,
            start,
            disks,
            console: at("console.log"),
            control_socket: sockets.path().join("qmp"),
            forwards: vec![(port, API_PORT)],
            uuid: random_uuid(),
            extra: Vec::new(),
        };
        fs_err::write(&description.console, "")?;
        let credentials = match self.credentials {
            Some(credentials) => credentials,
            None => Rc::new(Credentials::generate()?),
        };
        Ok(Machine {
            name: self.name,
            console: Console::new(description.console.clone()),
            artifacts: self.artifacts,
            credentials,
            description,
            port,
            directory,
            _sockets: sockets,
            process: None,
            qmp: None,
        })
    }

    fn command_line(&self) -> anyhow::Result<String> {
        let mut line = self.artifacts.image.command_line()?;
        if let Some((name, value)) = &self.command_line_replaced {
            line = replace_word(&line, name, value);
        }
        Ok(format!("{line} {}", self.command_line_extra))
    }

    fn start(&self, directory: &Path) -> anyhow::Result<Start> {
        match self.firmware {
            Firmware::Ovmf => {
                ensure!(
                    self.command_line_extra.is_empty() && self.command_line_replaced.is_none(),
                    "the command line of a boot from disk is inside its signed image; use Firmware::Direct to add to it"
                );
                let tools = &self.artifacts.tools;
                let variables = directory.join("firmware-variables.fd");
                fs_err::copy(&tools.firmware_variables, &variables)?;
                Ok(Start::Firmware { code: tools.firmware_code.clone(), variables })
            }
            Firmware::Direct => Ok(Start::Kernel {
                kernel: self.artifacts.image.kernel(),
                initrd: self.artifacts.image.initrd(),
                command_line: self.command_line()?,
            }),
        }
    }
}

/// The words of a command line, one of them with another value.
fn replace_word(line: &str, name: &str, value: &str) -> String {
    let words = line.split_whitespace();
    let replaced =
        words.map(
            |word| if word.starts_with(name) { format!("{name}{value}") } else { word.to_owned() },
        );
    replaced.collect::<Vec<_>>().join(" ")
}

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
        MachineBuilder {
            artifacts: artifacts.clone(),
            name: name.to_owned(),
            memory_mib: 512,
            processors: 2,
            firmware: Firmware::Ovmf,
            clock: Clock::Host,
            config: None,
            command_line_extra: String::new(),
            command_line_replaced: None,
            disk_gib: 4,
            credentials: None,
            directory: None,
        }
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

/// The folder of a machine's files.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    lives_on: bool,
    // Removes the folder when dropped.
    _temporary: Option<tempfile::TempDir>,
}

impl Directory {
    fn make(target: &Path, wanted: Option<&Path>, name: &str) -> anyhow::Result<Self> {
        if let Some(path) = wanted {
            if path.exists() {
                fs_err::remove_dir_all(path)?;
            }
            fs_err::create_dir_all(path)?;
            return Ok(Self { path: path.to_owned(), lives_on: true, _temporary: None });
        }
        let parent = target.join("qemu");
        fs_err::create_dir_all(&parent)?;
        remove_abandoned(&parent);
        let temporary = tempfile::Builder::new()
            .prefix(&format!("{name}-{}-", std::process::id()))
            .tempdir_in(&parent)
            .context("make a folder for the machine")?;
        Ok(Self { path: temporary.path().to_owned(), lives_on: false, _temporary: Some(temporary) })
    }
}

/// Removes folders of machines whose program was killed before it could: `<name>-<pid>-<random>` with no such process.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs_err::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.rsplit('-').nth(1).and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Somebody else may be removing it too.
            let _gone = fs_err::remove_dir_all(entry.path());
        }
    }
}

/// The machine's identity, as firmware tells it to the guest.
fn random_uuid() -> String {
    let digits = format!("{:032x}", fastrand::u128(..));
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

fn make_overlay(artifacts: &Artifacts, path: &Path, gib: u32) -> anyhow::Result<()> {
    let mut command = artifacts.tools.qemu_img.command();
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    command.arg(artifacts.image.raw_disk()).arg(path).arg(format!("{gib}G"));
    output(&mut command).map(drop)
}
