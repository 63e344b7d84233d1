//! The description of a machine: every choice has a default, and [`MachineBuilder::build`] turns it into disks and folders.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, ensure};

use super::{API_PORT, Machine};
use crate::artifacts::Artifacts;
use crate::console::Console;
use crate::credentials::Credentials;
use crate::disk::output;
use crate::qemu::args::{Accelerator, Clock, Description, Disk, RIGHT_TIME, Start, Wire};
use crate::{cidata, ports};

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
    forwards: Vec<u16>,
    wire: Option<Wire>,
    nvme: bool,
    credentials: Option<Rc<Credentials>>,
    directory: Option<PathBuf>,
}

impl MachineBuilder {
    pub(super) fn new(artifacts: &Artifacts, name: &str) -> Self {
        Self {
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
            forwards: Vec::new(),
            wire: None,
            nvme: false,
            credentials: None,
            directory: None,
        }
    }

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

    /// Disks are NVMe drives, for a system without an initrd on a kernel that has only those built in.
    #[must_use]
    pub fn nvme(mut self) -> Self {
        self.nvme = true;
        self
    }

    /// Makes a TCP port of the guest reachable; [`Machine::forwarded`] tells where.
    #[must_use]
    pub fn forward(mut self, guest_port: u16) -> Self {
        self.forwards.push(guest_port);
        self
    }

    /// A second network card with this MAC address, first among the guest's. Its cable leads to the machine whose sockets are the same
    /// two the other way round.
    #[must_use]
    pub fn wire(mut self, own: &Path, other: &Path, mac: &str) -> Self {
        self.wire = Some(Wire { own: own.into(), other: other.into(), mac: mac.to_owned() });
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
    pub fn build(mut self) -> anyhow::Result<Machine> {
        let directory =
            Directory::make(&self.artifacts.target, self.directory.as_deref(), &self.name)?;
        let at = |name: &str| directory.path.join(name);
        fs_err::create_dir_all(at("image"))?;
        self.artifacts.image = self.artifacts.image.pin(&at("image"))?;
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
        let mut forwards = vec![(port, API_PORT)];
        for guest in &self.forwards {
            forwards.push((ports::free()?, *guest));
        }
        let description = Description {
            accelerator: Accelerator::detect(),
            clock: self.clock,
            hardware_clock: RIGHT_TIME.to_owned(),
            memory_mib: self.memory_mib,
            processors: self.processors,
            start,
            disks,
            console: at("console.log"),
            control_socket: sockets.path().join("qmp"),
            forwards,
            wire: self.wire,
            uuid: random_uuid(),
            nvme: self.nvme,
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

/// The folder of a machine's files.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) lives_on: bool,
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
        let temporary = scratch_folder(target, name)?;
        Ok(Self { path: temporary.path().to_owned(), lives_on: false, _temporary: Some(temporary) })
    }
}

/// A folder below `target` that is removed when dropped, and by the next run when this one is killed.
pub(crate) fn scratch_folder(target: &Path, name: &str) -> anyhow::Result<tempfile::TempDir> {
    let parent = target.join("qemu");
    fs_err::create_dir_all(&parent)?;
    remove_abandoned(&parent);
    tempfile::Builder::new()
        .prefix(&format!("{name}-{}-", std::process::id()))
        .tempdir_in(&parent)
        .context("make a folder for a machine")
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
