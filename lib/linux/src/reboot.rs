//! The end of the machine: `reboot(2)`, and what else concerns the machine as a whole.

use std::io;

use rustix::system::RebootCommand;

/// What could not be done to the machine.
#[derive(Debug, thiserror::Error)]
pub enum RebootError {
    /// The kernel did not end.
    #[error("reboot({how})")]
    Reboot {
        /// How it should have ended.
        how: &'static str,
        /// Why it did not.
        #[source]
        source: io::Error,
    },
    /// The host name was not set.
    #[error("sethostname")]
    HostName(#[source] io::Error),
}

/// Restarts at once. Nothing is written or unmounted.
///
/// # Errors
/// Returns only when the kernel refuses.
pub fn restart() -> Result<(), RebootError> {
    call("restart", RebootCommand::Restart)
}

/// Powers off at once.
///
/// # Errors
/// Returns only when the kernel refuses.
pub fn power_off() -> Result<(), RebootError> {
    call("power off", RebootCommand::PowerOff)
}

/// Halts at once with the power on.
///
/// # Errors
/// Returns only when the kernel refuses.
pub fn halt() -> Result<(), RebootError> {
    call("halt", RebootCommand::Halt)
}

/// Jumps into the kernel loaded before.
///
/// # Errors
/// Returns only when the kernel refuses, as when none is loaded.
pub fn kexec() -> Result<(), RebootError> {
    call("kexec", RebootCommand::Kexec)
}

/// From now on Ctrl-Alt-Del is a SIGINT to PID 1 and no restart by the kernel.
///
/// # Errors
/// When the kernel refuses.
pub fn ctrl_alt_del_is_a_signal() -> Result<(), RebootError> {
    call("ctrl-alt-del off", RebootCommand::CadOff)
}

/// Sets the host name.
///
/// # Errors
/// When it is too long.
pub fn set_host_name(name: &str) -> Result<(), RebootError> {
    rustix::system::sethostname(name.as_bytes())
        .map_err(|source| RebootError::HostName(source.into()))
}

fn call(how: &'static str, command: RebootCommand) -> Result<(), RebootError> {
    rustix::system::reboot(command)
        .map_err(|source| RebootError::Reboot { how, source: source.into() })
}
