//! First program of the initrd: modules, verified root, switch root. It has no policy beyond the kernel command line, and
//! when it cannot go on it says why on every console and restarts the machine.
#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ingot_init::initrd::command_line::{self, CommandLine};
use ingot_init::initrd::{InitrdError, hand_over, modules, root};
use ingot_init::system::Chain;
use ingot_linux::kmsg::{KmsgWriter, Level};

/// How long the last words stay on the consoles. Long enough to read one line, short enough for an unattended machine
/// whose boot loader is to try the other slot.
const PAUSE_BEFORE_RESTART: Duration = Duration::from_secs(10);

fn main() {
    let mut log = None;
    let Err(error) = boot(&mut log);
    if let Some(log) = &log {
        log.line(Level::Emergency, format_args!("cannot start: {}", Chain(&error)));
        log.line(
            Level::Emergency,
            format_args!("restarting in {} s", PAUSE_BEFORE_RESTART.as_secs()),
        );
    }
    let _ = rustix::thread::clock_nanosleep_relative(
        rustix::thread::ClockId::Monotonic,
        &rustix::time::Timespec {
            tv_sec: PAUSE_BEFORE_RESTART.as_secs().cast_signed(),
            tv_nsec: 0,
        },
    );
    // When even this is refused, leaving the first program makes the kernel panic, which ends the machine as well.
    let _ = ingot_linux::reboot::restart();
}

/// The boot order. Returns only an error.
fn boot(log: &mut Option<KmsgWriter>) -> Result<std::convert::Infallible, InitrdError> {
    hand_over::mount_kernel_file_systems()?;
    let log = log.insert(KmsgWriter::open("ingot-initrd")?);
    log.line(Level::Info, format_args!("started"));
    let line = command_line::read(Path::new("/proc/cmdline"))?;
    modules::load_all(Path::new("/modules.list"), log, || root::is_there(&line))?;
    let device = root::find_and_verify(&line, log)?;
    hand_over::switch_root(&device)?;
    Err(start(&line, log))
}

fn start(line: &CommandLine, log: &KmsgWriter) -> InitrdError {
    // The end of our share of the boot; the bench reads it.
    log.line(Level::Info, format_args!("handing over to {}", line.init.display()));
    let source = Command::new(&line.init).env_clear().exec();
    InitrdError::Exec { path: PathBuf::from(&line.init), source }
}
