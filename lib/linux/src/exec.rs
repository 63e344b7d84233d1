//! Becoming another program, as the last thing a process does.
//!
//! For single-threaded callers that were made for this; it never returns when it works.
#![expect(unsafe_code, reason = "execve and signal have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;

/// Every signal at its default and none blocked, as a program expects it.
pub fn default_signals() {
    // An all-zero `struct sigaction` of the kernel: the default action. glibc's signal(2) refuses its own two signals, and its
    // posix_spawn(3) leaves them ignored.
    let default = [0_u64; 4];
    // SAFETY: plain system calls; `default` is as long as the kernel's struct, the set is a live local.
    unsafe {
        // Ignored signals stay ignored over execve, and Rust programs ignore SIGPIPE.
        for signal in 1..=64_i32 {
            let none = std::ptr::null::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Closes every descriptor but 0, 1, 2 and those of `keep`.
///
/// # Errors
/// When the kernel cannot.
///
/// # Safety
/// Nothing in this process may use, or close when dropped, one of those descriptors afterwards.
pub unsafe fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    let mut first = 3;
    for end in kept.into_iter().chain([RawFd::MAX]) {
        if first < end {
            // SAFETY: integers only; what uses the descriptors is the caller's promise.
            let result = unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, 0) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = end.saturating_add(1);
    }
    Ok(())
}

/// Becomes the program at `path`. Returns only when that fails, with the reason.
#[must_use]
pub fn replace(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: all strings are live and end with a zero, both arrays end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
