//! The few words the agent and PID 1 say to each other over one `SOCK_SEQPACKET` socket.
//!
//! Encoding and decoding only: no I/O, no allocation, no dependencies. It must not learn what a container, a pod or a
//! config is. Changing anything here needs a decision record: a running PID 1 and a new agent must understand each other.
//!
//! One packet is one message, always [`MESSAGE_LENGTH_MAX`] bytes long. The agent's end is file descriptor
//! [`AGENT_SOCKET_FD`]. Every request carries an id chosen by the agent; its reply repeats it. PID 1 also speaks
//! unasked ([`Notice`]). A message may carry one file descriptor (`SCM_RIGHTS`), only where its doc says so.
#![forbid(unsafe_code)]
#![no_std]

mod name;
mod wire;

#[cfg(test)]
mod tests;

pub use name::{InvalidName, Name};
pub use wire::{DecodeError, FromAgent, FromInit, Packet};

/// Version byte that opens each message; a peer with another version is refused.
pub const VERSION: u8 = 1;

/// An agent asks something at least this often, if only to show that it still turns. PID 1 kills one that is silent for
/// eight times as long.
pub const SPEAK_EVERY_SECONDS: u64 = 15;

/// Length of every message in bytes; what a message does not use is zero.
pub const MESSAGE_LENGTH_MAX: usize = 256;

/// The file descriptor on which the agent finds its end of the socket.
pub const AGENT_SOCKET_FD: i32 = 3;

/// File descriptors PID 1 keeps at most.
pub const STORED_FDS_MAX: usize = 4096;

/// Exit records and watches PID 1 keeps at most.
pub const WATCHES_MAX: usize = 4096;

/// What the agent may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the doc of a variant explains its fields")]
pub enum Request {
    /// First message of every agent: "I am alive and reading". Reply: [`Reply::Hello`].
    Hello,
    /// Keep the attached descriptor under this name; a name in use is replaced. Reply: [`Reply::Done`].
    StoreFd { name: Name },
    /// Give back the descriptor kept under this name (it stays stored). Reply: [`Reply::Fd`] with the descriptor.
    GetFd { name: Name },
    /// Forget it. Reply: [`Reply::Done`]; a name not stored is no error.
    DropFd { name: Name },
    /// The `index`-th stored name, in name order; used to list the store. Reply: [`Reply::StoredName`] or
    /// [`Refusal::NotFound`] past the end.
    NameAt { index: u32 },
    /// Tell me when this process ends, and keep its exit until I acknowledge it, also across a restart of mine.
    /// `start_time` is field 22 of /proc/PID/stat, so that a reused pid is never taken for the old process. If the
    /// process ended just before, its exit is found among the recent unclaimed exits and sent at once.
    /// Reply: [`Reply::Done`], or [`Refusal::NotFound`] when no such process lives or ended recently.
    Watch { pid: i32, start_time: u64 },
    /// I have made this exit durable; forget it. Reply: [`Reply::Done`], also when there is nothing to forget.
    AcknowledgeExit { pid: i32, start_time: u64 },
    /// Send again, as [`Notice::Exit`], every exit that is not acknowledged, then reply [`Reply::Done`].
    ReplayExits,
    /// The `index`-th service. Reply: [`Reply::Service`] or [`Refusal::NotFound`] past the end.
    ServiceAt { index: u32 },
    /// Start a stopped service. Reply: [`Reply::Done`].
    StartService { name: Name },
    /// Stop a service and keep it stopped; the agent itself cannot be stopped so. Reply: [`Reply::Done`].
    StopService { name: Name },
    /// Stop and start it; with `kill` by SIGKILL at once. Reply: [`Reply::Done`] (not seen when it is the agent).
    RestartService { name: Name, kill: bool },
    /// End the machine in order. `grace_ms` is how long the agent gets to stop pods after [`Notice::Stopping`].
    /// Reply: [`Reply::Done`], then [`Notice::Stopping`].
    EndMachine { how: End, grace_ms: u32 },
    /// The agent has stopped everything of its own; PID 1 need not wait out the grace. Reply: [`Reply::Done`].
    ReadyToEnd,
}

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Firmware reboot.
    Reboot,
    /// Power off.
    PowerOff,
    /// Halt with the power on.
    Halt,
    /// Jump into the kernel loaded beforehand with `kexec_file_load(2)`; a firmware reboot when none is loaded.
    Kexec,
}

/// What PID 1 answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the doc of a variant explains its fields")]
pub enum Reply {
    /// Answer to [`Request::Hello`]: how often the agent was restarted since boot, and CLOCK_BOOTTIME nanoseconds at
    /// which PID 1 began.
    Hello { restarts: u32, started_at_ns: u64 },
    /// Done.
    Done,
    /// The descriptor is attached.
    Fd,
    /// A stored name.
    StoredName { name: Name },
    /// A service.
    Service(Service),
    /// Not done, and why.
    Refused(Refusal),
}

/// State of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// What it is doing.
    pub state: ServiceState,
    /// Its process, 0 when there is none.
    pub pid: i32,
    /// Restarts since boot.
    pub restarts: u32,
    /// CLOCK_BOOTTIME nanoseconds of the last change of `state`.
    pub since_ns: u64,
    /// Raw wait status of its last end, `None` when it never ended.
    pub last_wait_status: Option<i32>,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// Its process runs.
    Running,
    /// It ended and waits to be started again.
    Backoff,
    /// It is being stopped.
    Stopping,
    /// It does not run and will not by itself.
    Stopped,
}

/// Why PID 1 refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such name, index or process.
    NotFound,
    /// A table is full.
    Full,
    /// The request carries no descriptor, or one too many.
    WrongFd,
    /// The message could not be understood.
    Malformed,
    /// Not allowed, such as stopping the agent, or anything new while the machine ends.
    NotAllowed,
}

/// What PID 1 says unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the doc of a variant explains its fields")]
pub enum Notice {
    /// A watched process ended. Repeated to each new agent until acknowledged.
    Exit(Exit),
    /// The machine ends: stop pods within `grace_ms`, then say [`Request::ReadyToEnd`].
    Stopping { how: End, grace_ms: u32 },
}

/// How a watched process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its pid.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat, as in the watch.
    pub start_time: u64,
    /// Raw wait status, as `waitpid(2)` gives it.
    pub wait_status: i32,
    /// CLOCK_REALTIME nanoseconds at which it was reaped.
    pub ended_at_ns: u64,
}
