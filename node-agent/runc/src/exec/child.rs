//! The new process between its birth and its program: it gives up, step by step, everything the container may not have.
//!
//! It runs as a copy of the helper, already in the container's cgroup and in all of its namespaces but one. Nothing here
//! may return to the helper's code, and the order of the steps is what makes it safe.
#![expect(unsafe_code, reason = "closes descriptors by number, in a process that never goes back")]

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::fs::Mode;
use rustix::process::Signal;
use rustix::thread::ThreadNameSpaceType;

use super::plan::Plan;
use super::target::Target;
use crate::init::set_apparmor;
use crate::step::{Failure, Step as _};

/// What the program's own failures are called; the helper makes an exit code of it.
pub(super) const EXECUTE: &str = "execute the program";

/// Descriptors of the new process.
pub(super) struct Descriptors {
    /// Become 0, 1 and 2.
    pub(super) stdio: [OwnedFd; 3],
    /// Standard input is a terminal, and becomes the controlling one.
    pub(super) terminal: bool,
    /// Takes the reason of a failure; closed by the kernel when the program begins.
    pub(super) failure: OwnedFd,
}

/// Becomes the program. Returns the exit status when that fails, after saying why.
pub(super) fn run(plan: &Plan, target: &Target, descriptors: &Descriptors) -> i32 {
    let Err(Failure(step, error)) = become_program(plan, target, descriptors);
    let message = format!("{} {step}", error.raw_os_error().unwrap_or(0));
    if let Ok(pipe) = descriptors.failure.try_clone() {
        // Nobody to tell: the helper is gone, and then we are about to be killed.
        let _ = std::fs::File::from(pipe).write_all(message.as_bytes());
    }
    ingot_linux::spawn::NOT_STARTED
}

fn become_program(
    plan: &Plan,
    target: &Target,
    descriptors: &Descriptors,
) -> Result<std::convert::Infallible, Failure> {
    let [stdin, stdout, stderr] = &descriptors.stdio;
    rustix::stdio::dup2_stdin(stdin).step("place standard input")?;
    rustix::stdio::dup2_stdout(stdout).step("place standard output")?;
    rustix::stdio::dup2_stderr(stderr).step("place standard error")?;
    // First of all what is of the node: from our birth on, a process of the container with CAP_SYS_PTRACE may look into us
    // (CVE-2016-9962).
    let mut kept = vec![descriptors.failure.as_raw_fd(), target.process.as_fd().as_raw_fd()];
    if plan.apparmor.is_some() {
        kept.push(target.proc.as_raw_fd());
    }
    // SAFETY: this process uses no other descriptor than these and 0 to 2 from here to its end, and drops none.
    unsafe { ingot_linux::exec::close_all_but(&kept) }.step("close descriptors")?;
    target.become_root().step("become the container's root")?;
    // Until the program begins, we do not outlive the helper. A change of the user takes this away again.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step("follow the helper")?;
    // Only now: a process outside this namespace's root cannot be moved into a cgroup below it.
    let kind = ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(target.process.as_fd(), kind)
        .step("enter the cgroup namespace")?;
    rustix::process::setsid().step("begin a session")?;
    ingot_linux::exec::default_signals();
    if descriptors.terminal {
        rustix::process::ioctl_tiocsctty(std::io::stdin()).step("take the controlling terminal")?;
    }
    if let Some(profile) = &plan.apparmor {
        set_apparmor(&target.proc, profile).step("set the AppArmor profile")?;
    }
    // Nothing but the way to tell of a failure stays open from here on: a working folder, or a program, given as
    // /proc/self/fd/N must find nothing (CVE-2024-21626).
    // SAFETY: as above, with `failure` alone.
    unsafe { ingot_linux::exec::close_all_but(&[descriptors.failure.as_raw_fd()]) }
        .step("close descriptors")?;
    // A folder may be open to root only, or to the user only (a network file system): either is good.
    let entered = enter_working_folder(plan);
    plan.rights.assume()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step("follow the helper")?;
    if entered.is_err() {
        enter_working_folder(plan).step("enter the working folder")?;
    }
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    for (resource, limit) in &plan.limits {
        rustix::process::setrlimit(*resource, *limit).step("set a limit")?;
    }
    plan.rights.close()?;
    execute(plan)
}

fn enter_working_folder(plan: &Plan) -> io::Result<()> {
    rustix::process::chdir(plan.working_folder.as_c_str())?;
    // The kernel says "(unreachable)" of a folder that is not below our root.
    let folder = rustix::process::getcwd(Vec::new())?;
    if folder.as_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(rustix::io::Errno::PERM.into())
    }
}

/// As execvp(3): goes on where nothing is found, and remembers that something was found which may not be executed.
fn execute(plan: &Plan) -> Result<std::convert::Infallible, Failure> {
    rustix::process::set_parent_process_death_signal(None).step("let go of the helper")?;
    let mut reason = io::Error::from_raw_os_error(libc::ENOENT);
    for place in &plan.places {
        let error = ingot_linux::exec::replace(place, &plan.arguments, &plan.environment);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => reason = error,
            _ => return Err(Failure(EXECUTE, error)),
        }
    }
    Err(Failure(EXECUTE, reason))
}
