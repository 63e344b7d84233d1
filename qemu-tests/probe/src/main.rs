//! The stopwatch inside the guest. Runs as the first program of a boot that is measured, before the PID 1 under test,
//! and reports on the second serial port what happened when. Only `cargo xtask bench` puts it into an image; it is no
//! part of any image that ships, and decides nothing about the system it watches.
//!
//! Started as PID 1 it does one of two things. Without a plan ([`plan::PATH`]) it is the PID 1 that does nothing: it
//! reports the time and powers off, which is the floor every other boot is compared with. With a plan it starts a
//! second copy of itself, waits until that one is warm, notes the time and executes the PID 1 the plan names. The second
//! copy asks the node's services until they answer, waits for the system to idle, reports and powers off.

mod ask;
mod clock;
mod look;
mod plan;
mod quota;
mod report;
mod watch;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use rustix::mount::MountFlags;

use crate::report::Report;

/// Says that this is the second copy.
const WATCH: &str = "--watch";

fn main() {
    let started = clock::tsc();
    std::panic::set_hook(Box::new(|panic| give_up(&panic.to_string())));
    let outcome = if std::env::args().nth(1).as_deref() == Some(WATCH) {
        watch::run()
    } else {
        run_as_pid1(started)
    };
    if let Err(error) = outcome {
        give_up(&format!("{error:#}"));
    }
}

/// Says why on the console and in the report, and stops: whoever waits for the report must not wait for its deadline.
fn give_up(why: &str) {
    eprintln!("ingot-probe: {why}");
    if let Ok(mut report) = Report::open() {
        report.text("error", why);
        report.finish();
    }
    power_off();
}

fn run_as_pid1(started: u64) -> anyhow::Result<()> {
    // Whoever ran before may have mounted them already; what is really missing shows when it is used.
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc")] {
        let _present = std::fs::create_dir(target);
        let _mounted = rustix::mount::mount(kind, target, kind, MountFlags::empty(), None);
    }
    match plan::read()? {
        None => {
            let mut report = Report::open()?;
            report.number("pid1", started);
            look::kernel_log(&mut report)?;
            report.finish();
            power_off();
            Ok(())
        }
        Some(plan) => execute(started, &plan),
    }
}

/// Starts the watcher and becomes the PID 1 that is measured. Returns only on failure.
fn execute(started: u64, plan: &plan::Plan) -> anyhow::Result<()> {
    let mut watcher = Command::new("/proc/self/exe")
        .arg(WATCH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the watcher")?;
    let ready = watcher.stdout.take().context("the watcher has no output")?;
    let mut line = String::new();
    BufReader::new(ready).read_line(&mut line).context("wait for the watcher")?;
    let mut orders = watcher.stdin.take().context("the watcher has no input")?;
    // The end of this line is the start of what is measured.
    writeln!(orders, "{started} {}", clock::tsc()).context("tell the watcher the time")?;
    drop(orders);
    let error = Command::new(&plan.pid1).env_remove("PATH").exec();
    Err(error).with_context(|| format!("execute {}", plan.pid1))
}

/// Ends the machine. The report is out; nothing that was measured is still wanted. File systems are written and made
/// read-only, so that the next boot from this disk finds them clean.
fn power_off() {
    rustix::fs::sync();
    // Absent without CONFIG_MAGIC_SYSRQ; then the next boot replays a journal. The kernel does it in the background and
    // tells nobody when it is done.
    let _absent = std::fs::write("/proc/sysrq-trigger", "u");
    let pause = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let _woken = rustix::thread::nanosleep(&pause);
    let _unreachable = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
}
