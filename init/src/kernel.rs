//! The seam between policy and kernel: all that PID 1's loop asks of the machine. The tests put a fake here.

use ingot_init_api::{End, FromInit};

use crate::supervise::{Helper, Line, Milliseconds};

/// What became of a message to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the socket.
    Taken,
    /// The socket is full; try again when it is writable.
    Full,
    /// There is no agent at the other end.
    Lost,
}

/// The machine. No method waits for anything but the kernel's answer to one call.
pub trait Kernel {
    /// A file descriptor.
    type Fd;

    /// CLOCK_BOOTTIME.
    fn now(&self) -> Milliseconds;

    /// CLOCK_REALTIME in nanoseconds.
    fn wall_clock_ns(&self) -> u64;

    /// Field 22 of the process's `stat`, `None` when there is no such process.
    fn start_time(&self, pid: i32) -> Option<u64>;

    /// Starts the agent with a new socket and gives its pid.
    fn start_agent(&mut self) -> Option<i32>;

    /// SIGKILL or SIGTERM for the agent, a child that was not collected yet.
    fn signal_agent(&mut self, pid: i32, kill: bool);

    /// Closes the agent's socket.
    fn close_socket(&mut self);

    /// Sends the agent a message.
    fn send(&mut self, message: &FromInit, fd: Option<&Self::Fd>) -> Sent;

    /// SIGKILL or SIGTERM for every other process.
    fn signal_everyone(&mut self, kill: bool);

    /// Starts a child that does this and ends with status 0 when it went well; gives its pid.
    fn start_helper(&mut self, helper: Helper) -> Option<i32>;

    /// Feeds the watchdog, if there is one.
    fn feed_watchdog(&mut self);

    /// `reboot(2)`; comes back with `false` when the kernel refused. A fake comes back with `true`.
    fn end_machine(&mut self, how: End) -> bool;

    /// Ends PID 1, and with it the kernel.
    fn give_up(&mut self);

    /// Makes the consoles show what a person waits for.
    fn show_progress(&mut self);

    /// Writes to the kernel log.
    fn log(&mut self, line: Line);
}
