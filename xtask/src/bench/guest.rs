//! One boot in guest virtual time: one instruction is one nanosecond. Single processor, software emulation, no network card.
//!
//! A timed boot never idles: with `idle=poll` the guest's idle loop runs instructions. Otherwise QEMU skips idle time by
//! going to the next timer, and while a disk request is on its way the next timer may be seconds off: each request would
//! cost as much virtual time as the guest happens to have no timer. A boot that is not timed skips, and a minute is short.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ingot_image_builder::tools::Tools;

use super::report::Report;

/// What the measured machine is made of.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    /// Name of the files it leaves.
    pub(super) name: String,
    /// Kernel image. The same file for every system that is compared.
    pub(super) kernel: PathBuf,
    /// Initrd, if the system uses one.
    pub(super) initrd: Option<PathBuf>,
    /// Kernel command line.
    pub(super) command_line: String,
    /// Raw image of the NVMe disk, if there is one, and whether what the guest writes is kept.
    pub(super) disk: Option<(PathBuf, bool)>,
}

/// What becomes of time in which the guest has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// It passes like any other: for boots whose times are read.
    Timed,
    /// It is skipped: for boots that are looked at after a while.
    Skipping,
}

/// Memory of every measured machine.
pub(super) const MEMORY_MIB: u32 = 512;

/// What the clock of every measured machine shows when it starts: as QEMU takes it, and in seconds since 1970.
pub(super) const CLOCK: (&str, u64) = ("2027-01-01T00:00:00", 1_798_761_600);

/// Longest host time of one boot. Emulation is slow and other work may run beside it.
const BOOT_TIMEOUT: Duration = Duration::from_secs(900);

impl Guest {
    /// Boots, waits until the machine is off and reads the report. Leaves console and report in `directory`.
    pub(super) fn run(
        &self,
        clock: Clock,
        tools: &Tools,
        directory: &Path,
    ) -> anyhow::Result<Report> {
        let (kind, argument) = match clock {
            Clock::Timed => ("timed", " idle=poll"),
            Clock::Skipping => ("idle", ""),
        };
        let console = directory.join(format!("{}-{kind}.console", self.name));
        let report = directory.join(format!("{}-{kind}.report", self.name));
        let mut qemu = tools.qemu()?;
        qemu.args(["-machine", "q35", "-cpu", "max", "-smp", "1", "-m", &MEMORY_MIB.to_string()])
            .args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"])
            .args(["-rtc", &format!("base={},clock=vm", CLOCK.0)])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-serial")
            .arg(format!("file:{}", report.display()))
            .arg("-kernel")
            .arg(&self.kernel)
            .args(["-append", &format!("{}{argument}", self.command_line)]);
        if let Some(initrd) = &self.initrd {
            qemu.arg("-initrd").arg(initrd);
        }
        if let Some((disk, keep)) = &self.disk {
            let snapshot = if *keep { "off" } else { "on" };
            // A flush would cost what the host's disk takes for it.
            let drive = format!(
                "if=none,id=disk,format=raw,cache=unsafe,snapshot={snapshot},file={}",
                disk.display()
            );
            qemu.args(["-drive", &drive, "-device", "nvme,drive=disk,serial=bench"]);
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = qemu.spawn().context("start QEMU")?;
        let mut stderr = child.stderr.take().context("QEMU has no error output")?;
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            // Ends when QEMU does, because nobody else holds its error output.
            let _receiver_may_be_gone = sender.send(std::io::read_to_string(&mut stderr));
        });
        let messages = ended.recv_timeout(BOOT_TIMEOUT);
        let _already_ended = child.kill();
        let status = child.wait().context("wait for QEMU")?;
        let Ok(messages) = messages else {
            bail!(
                "{} did not power off within {} s; see {}",
                self.name,
                BOOT_TIMEOUT.as_secs(),
                console.display()
            );
        };
        let text = String::from_utf8_lossy(&fs_err::read(&report)?).into_owned();
        Report::parse(&text).with_context(|| {
            let messages = messages.unwrap_or_default();
            format!(
                "{} ({status}); console in {} {}",
                self.name,
                console.display(),
                messages.trim()
            )
        })
    }
}
