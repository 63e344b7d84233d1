//! Starting a program as PID 1 must start one: born in its cgroup, with nothing of ours but the descriptors it is given.
//!
//! For single-threaded callers only: the child of a `clone3` without `CLONE_VM` has a copy of the caller's memory as it
//! was, and a lock held by another thread would stay locked there for ever.
#![expect(unsafe_code, reason = "clone3 and what happens between it and exec have no safe wrapper")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel made no process.
    #[error("clone3")]
    Clone(#[source] io::Error),
    /// More than [`ARGUMENTS_MAX`] arguments or variables.
    #[error("more than {ARGUMENTS_MAX} arguments or variables")]
    TooMany,
}

/// Arguments, and likewise variables, at most.
pub const ARGUMENTS_MAX: usize = 15;

/// Exit status of a child that could not be made into the program.
pub const NOT_STARTED: i32 = 127;

/// A program to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// The file.
    pub path: &'a CStr,
    /// All arguments, the name first.
    pub arguments: &'a [&'a CStr],
    /// `NAME=value` for each variable.
    pub environment: &'a [&'a CStr],
    /// Descriptors 0, 1, 2 and 3 of the program. Everything else is closed.
    pub descriptors: [BorrowedFd<'a>; 4],
    /// Folder of the cgroup in which it is born; ours when absent.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// What its `oom_score_adj` says, from -1000 (never killed for memory) to 1000 (first). What it starts inherits it.
    pub oom_score_adj: &'a CStr,
}

/// `struct clone_args` of `linux/sched.h`, first published size.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_CLEAR_SIGHAND` of `linux/sched.h`.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// `CLONE_INTO_CGROUP` of `linux/sched.h`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `CLONE_PARENT` of `linux/sched.h`: a child of our parent, not of us.
pub const CLONE_PARENT: u64 = 0x8000;
/// `CLONE_NEWNS` of `linux/sched.h`.
pub const CLONE_NEWNS: u64 = 0x2_0000;
/// `CLONE_NEWPID` of `linux/sched.h`.
pub const CLONE_NEWPID: u64 = 0x2000_0000;

/// Starts it in a session of its own, with every signal unblocked and at its default, and gives its pid. A program that
/// cannot be executed shows as a child that ends at once with [`NOT_STARTED`].
///
/// # Errors
/// When the kernel makes no process.
pub fn start(program: &Program<'_>) -> Result<i32, SpawnError> {
    let arguments = pointers(program.arguments)?;
    let environment = pointers(program.environment)?;
    let descriptors = program.descriptors.map(|fd| fd.as_raw_fd());
    match clone(program.cgroup, 0)? {
        // SAFETY: we are the new process, single-threaded. The arrays end with a null pointer and point to strings that
        // live in our copy of the caller's memory.
        0 => unsafe { become_program(program, &arguments, &environment, descriptors) },
        pid => Ok(pid),
    }
}

/// Runs `work` in a child that ends with its result as exit status, for work that may block for ever. The child has a
/// copy of all memory and descriptors; it must not touch what it shares with the parent through them.
///
/// # Errors
/// When the kernel makes no process.
pub fn run_in_child(work: impl FnOnce() -> i32) -> Result<i32, SpawnError> {
    run_in_child_of(None, work)
}

/// As [`run_in_child`], with the child born in the cgroup of this folder. The pid is as the caller sees it, also when the
/// child is in a pid namespace that the caller has entered for its children.
///
/// # Errors
/// When the kernel makes no process; `EBUSY` when the cgroup has handed its controllers on to cgroups below it.
pub fn run_in_child_of(
    cgroup: Option<BorrowedFd<'_>>,
    work: impl FnOnce() -> i32,
) -> Result<i32, SpawnError> {
    run_in_child_with(cgroup, 0, work)
}

/// As [`run_in_child_of`], with more of the flags that are named here.
///
/// # Errors
/// As [`run_in_child_of`].
pub fn run_in_child_with(
    cgroup: Option<BorrowedFd<'_>>,
    flags: u64,
    work: impl FnOnce() -> i32,
) -> Result<i32, SpawnError> {
    match clone(cgroup, flags)? {
        0 => {
            let status = work();
            // SAFETY: ends this process at once, without running the parent's exit handlers a second time.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid),
    }
}

fn pointers(strings: &[&CStr]) -> Result<[*const libc::c_char; ARGUMENTS_MAX + 1], SpawnError> {
    let mut pointers = [std::ptr::null(); ARGUMENTS_MAX + 1];
    // The last place stays null: it ends the array.
    let (_, places) = pointers.split_last_mut().ok_or(SpawnError::TooMany)?;
    if strings.len() > places.len() {
        return Err(SpawnError::TooMany);
    }
    for (place, string) in places.iter_mut().zip(strings) {
        *place = string.as_ptr();
    }
    Ok(pointers)
}

fn clone(cgroup: Option<BorrowedFd<'_>>, flags: u64) -> Result<i32, SpawnError> {
    // A child of our parent tells it by our own signal, and the kernel wants none named.
    let tells = if flags & CLONE_PARENT == 0 { libc::SIGCHLD } else { 0 };
    let mut arguments = CloneArguments {
        flags: CLONE_CLEAR_SIGHAND | flags,
        exit_signal: u64::from(tells.unsigned_abs()),
        ..CloneArguments::default()
    };
    if let Some(folder) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(folder.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the struct is live, laid out as the kernel's and its size is passed. Without CLONE_VM and with no stack the
    // child goes on from here on a copy of our stack, as after fork.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>()) };
    match i32::try_from(result) {
        Ok(pid) if pid >= 0 => Ok(pid),
        _ => Err(SpawnError::Clone(io::Error::last_os_error())),
    }
}

/// Only calls that are safe between fork and exec; never returns.
///
/// # Safety
/// The caller is a freshly cloned, single-threaded process; both arrays end with a null pointer.
unsafe fn become_program(
    program: &Program<'_>,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    descriptors: [RawFd; 4],
) -> ! {
    // SAFETY: plain system calls on integers and on memory that outlives them.
    unsafe {
        libc::setsid();
        // CLONE_CLEAR_SIGHAND resets handlers but leaves ignored signals ignored, and Rust programs ignore SIGPIPE.
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        write_oom_score_adj(program.oom_score_adj);
        if place_descriptors(descriptors) {
            libc::execve(program.path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        }
        libc::_exit(NOT_STARTED)
    }
}

/// Before exec, so that the program never runs without it. A refusal is no reason not to start the program.
///
/// # Safety
/// As [`become_program`].
unsafe fn write_oom_score_adj(value: &CStr) {
    // SAFETY: both strings are live and end with a zero, and `count_bytes` is the length of what is read.
    unsafe {
        let file =
            libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, value.as_ptr().cast(), value.count_bytes());
            libc::close(file);
        }
    }
}

/// Makes them 0, 1, 2, 3 and marks everything above close-on-exec.
///
/// # Safety
/// As [`become_program`].
unsafe fn place_descriptors(descriptors: [RawFd; 4]) -> bool {
    // First out of the way of the targets, then into place: no order of plain dup2 calls is right for every input.
    let mut moved = descriptors;
    for fd in &mut moved {
        // SAFETY: integers only.
        *fd = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 10) };
        if *fd < 0 {
            return false;
        }
    }
    for (target, fd) in (0..).zip(moved) {
        // SAFETY: integers only. dup2 clears close-on-exec on the target, and the two differ.
        if unsafe { libc::dup2(fd, target) } < 0 {
            return false;
        }
    }
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_close_range, 4_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 }
}
