//! PID 1. Reads as the boot order: mounts, settings, cgroups, the agent, and then the loop that never returns.
//!
//! It has one thread, opens no network socket, and knows nothing of containers or configs.
#![forbid(unsafe_code)]

use ingot_init::event::Loop;
use ingot_init::supervise::State;
use ingot_init::system::System;
use ingot_init::{clock, early, last_words};
use ingot_linux::kmsg::{KmsgWriter, Level};

fn main() {
    if std::process::id() != 1 {
        // Not eprintln, which panics when there is nobody to print to.
        let _ = rustix::io::write(
            rustix::stdio::stderr(),
            b"ingot-init: only the kernel starts this program\n",
        );
        std::process::exit(1);
    }
    last_words::prepare();
    let Ok(log) = KmsgWriter::open("ingot-init") else { return };
    log.line(Level::Info, format_args!("started"));
    let mut state = State::new(clock::now());
    let mut system = System::new(log);
    early::read_ahead();
    early::mounts(&system);
    early::settings(&system);
    early::limits(&system);
    early::cgroups(&system);
    // Before the first child: its end must not be missed.
    let mut rounds = match Loop::new() {
        Ok(rounds) => rounds,
        Err(error) => return system.warn("cannot start", &error),
    };
    // Starts the agent, for which its time has come.
    rounds.tick(&mut system, &mut state);
    if let Err(error) = ingot_linux::reboot::ctrl_alt_del_is_a_signal() {
        system.warn("Ctrl-Alt-Del restarts without order", &error);
    }
    rounds.watch_devices(&system);
    loop {
        rounds.round(&mut system, &mut state);
    }
}
