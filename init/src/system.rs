//! The real machine behind the seam of [`crate::kernel`].

use std::ffi::CStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use ingot_init_api::{End, FromAgent, FromInit, MESSAGE_LENGTH_MAX, Request};
use ingot_linux::cgroup;
use ingot_linux::kmsg::{self, KmsgWriter, Level};
use ingot_linux::process::{self, Pidfd};
use ingot_linux::watchdog::Watchdog;
use ingot_linux::{reboot, seqpacket, spawn};
use rustix::process::Signal;

use crate::kernel::{Kernel, Sent};
use crate::supervise::{Asked, Event, Helper, Line, Milliseconds};
use crate::{agent, clock, shutdown};

/// Time without food after which the watchdog restarts the machine, in seconds. Longer than any step of the end.
const WATCHDOG_SECONDS: i32 = 60;

/// Groups whose processes are killed as a whole at the end; ours is not among them. Paths are ready for the kernel:
/// ending a machine without memory must not need any.
const KILL_FILES: [&CStr; 3] = [
    c"/sys/fs/cgroup/pods/cgroup.kill",
    c"/sys/fs/cgroup/kubepods/cgroup.kill",
    c"/sys/fs/cgroup/system/cgroup.kill",
];

/// Everything of PID 1 that is not policy.
pub struct System {
    log: KmsgWriter,
    socket: Option<OwnedFd>,
    watchdog: Option<Watchdog>,
}

impl System {
    /// The machine, with no agent yet.
    #[must_use]
    pub fn new(log: KmsgWriter) -> Self {
        Self { log, socket: None, watchdog: None }
    }

    /// The agent's socket, to wait on.
    #[must_use]
    pub fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Writes a line that tells of something wrong, with all its causes.
    pub fn warn(&self, doing: &str, error: &dyn std::error::Error) {
        self.log.line(Level::Warning, format_args!("{doing}: {}", Chain(error)));
    }

    /// Writes a line.
    pub fn say(&self, text: fmt::Arguments<'_>) {
        self.log.line(Level::Notice, text);
    }

    /// Takes the agent's next message out of the socket; `None` when there is nothing more for now.
    #[must_use]
    pub fn receive(&self) -> Option<Event<OwnedFd>> {
        let socket = self.socket.as_ref()?;
        let mut buffer = [0; MESSAGE_LENGTH_MAX];
        let received = match seqpacket::receive(socket, &mut buffer) {
            Ok(received) => received,
            Err(error) if error.would_block() => return None,
            Err(_) => return Some(Event::SocketLost),
        };
        if received.length == 0 {
            return Some(Event::SocketLost);
        }
        let message = FromAgent::decode(buffer.get(..received.length).unwrap_or_default());
        let (Ok(FromAgent { id, request }), false) = (message, received.truncated) else {
            return Some(Event::Malformed);
        };
        let alive_since = match request {
            Request::Watch { pid, .. } => self.start_time(pid),
            _ => None,
        };
        Some(Event::Request(Asked { id, request, fd: received.fd, alive_since }))
    }
}

impl Kernel for System {
    type Fd = OwnedFd;

    fn now(&self) -> Milliseconds {
        clock::now()
    }

    fn wall_clock_ns(&self) -> u64 {
        clock::wall_clock_ns()
    }

    fn start_time(&self, pid: i32) -> Option<u64> {
        process::start_time(pid).ok()
    }

    fn start_agent(&mut self) -> Option<i32> {
        match agent::start() {
            Ok((pid, socket)) => {
                self.socket = Some(socket);
                Some(pid)
            }
            Err(error) => {
                self.warn("start the agent", &error);
                None
            }
        }
    }

    fn signal_agent(&mut self, pid: i32, kill: bool) {
        // The pid is our uncollected child's and cannot have come to mean another.
        let sent = Pidfd::open(pid).and_then(|agent| agent.signal(signal(kill)));
        if let Err(error) = sent {
            self.warn("signal the agent", &error);
        }
    }

    fn close_socket(&mut self) {
        self.socket = None;
    }

    fn send(&mut self, message: &FromInit, fd: Option<&OwnedFd>) -> Sent {
        let Some(socket) = &self.socket else { return Sent::Lost };
        match seqpacket::send(socket, &message.encode(), fd.map(std::os::fd::AsFd::as_fd)) {
            Ok(()) => Sent::Taken,
            Err(error) if error.would_block() => Sent::Full,
            Err(_) => Sent::Lost,
        }
    }

    fn signal_everyone(&mut self, kill: bool) {
        if let Err(error) = process::signal_everyone(signal(kill)) {
            self.warn("signal all processes", &error);
        }
        if !kill {
            return;
        }
        // By group as well: it reaches what forks faster than signals are sent.
        for group in KILL_FILES {
            if let Err(error) = cgroup::kill_by_file(group) {
                self.say(format_args!("write to {group:?}: {error}"));
            }
        }
    }

    fn start_helper(&mut self, helper: Helper) -> Option<i32> {
        spawn::run_in_child(|| shutdown::run(helper))
            .inspect_err(|error| self.warn("start a helper", error))
            .ok()
    }

    fn feed_watchdog(&mut self) {
        match &mut self.watchdog {
            Some(watchdog) => {
                if let Err(error) = watchdog.feed() {
                    self.log.line(Level::Warning, format_args!("{}", Chain(&error)));
                }
            }
            // Its driver may come at any time; a machine without one is asked again at each turn, which is one failing open.
            None => self.watchdog = open_watchdog(&self.log),
        }
    }

    fn end_machine(&mut self, how: End) -> bool {
        let refused = match how {
            End::Reboot => reboot::restart(),
            End::PowerOff => reboot::power_off(),
            End::Halt => reboot::halt(),
            End::Kexec => reboot::kexec(),
        };
        if let Err(error) = refused {
            self.warn("end the machine", &error);
        }
        false
    }

    fn give_up(&mut self) {
        self.log.line(
            Level::Emergency,
            format_args!("the kernel does not end, leaving PID 1 to make it panic"),
        );
        std::process::exit(1);
    }

    fn show_progress(&mut self) {
        kmsg::show_notices_on_consoles();
    }

    fn log(&mut self, line: Line) {
        let level = if line.is_warning() { Level::Warning } else { Level::Notice };
        self.log.line(level, format_args!("{line}"));
    }
}

fn open_watchdog(log: &KmsgWriter) -> Option<Watchdog> {
    let watchdog = Watchdog::open(Path::new("/dev/watchdog0")).ok()?;
    if watchdog.caused_last_restart() {
        log.line(Level::Warning, format_args!("the last restart was the watchdog's"));
    }
    match watchdog.set_timeout(WATCHDOG_SECONDS) {
        Ok(seconds) => log.line(Level::Info, format_args!("watchdog runs, {seconds} s")),
        Err(error) => {
            log.line(Level::Warning, format_args!("{}, using its own time", Chain(&error)))
        }
    }
    Some(watchdog)
}

fn signal(kill: bool) -> Signal {
    if kill { Signal::KILL } else { Signal::TERM }
}

/// An error and its causes in one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
