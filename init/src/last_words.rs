//! What happens if the impossible happens: PID 1 panics. It says why where it can still be read after the restart, and
//! restarts the machine.

use std::panic::PanicHookInfo;

use ingot_linux::kmsg::{KmsgWriter, Level};
use rustix::fs::{Mode, OFlags};

/// From now on a panic is recorded in the kernel log and in pstore, and restarts the machine.
pub fn prepare() {
    std::panic::set_hook(Box::new(record_and_restart));
}

fn record_and_restart(info: &PanicHookInfo<'_>) {
    if let Ok(log) = KmsgWriter::open("ingot-init") {
        log.line(Level::Emergency, format_args!("PID 1 panicked: {info}"));
    }
    // Its writer survives a warm restart where the machine has memory for it; absent elsewhere.
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(memory) = rustix::fs::open(c"/dev/pmsg0", flags, Mode::empty()) {
        let text = info.payload_as_str().unwrap_or("PID 1 panicked");
        let _ = rustix::io::write(&memory, text.as_bytes());
    }
    // No sync: it may block for ever. When this is refused, the panic goes on to abort, and the kernel ends the machine
    // because its first process is gone.
    let _ = ingot_linux::reboot::restart();
}
