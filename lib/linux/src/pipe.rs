//! Pipes whose bytes move into files inside the kernel, so that no byte can be lost or doubled by a kill in between.
//!
//! It knows no log format.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, FileType, Mode, OFlags};
use rustix::pipe::{PipeFlags, SpliceFlags};

/// What one [`splice_to_file`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spliced {
    /// This many bytes left the pipe and are in the file.
    Moved(u64),
    /// The pipe is empty, and somebody may still write to it.
    Empty,
    /// The pipe is empty, and nobody can write to it any more.
    End,
}

/// A pipe (read end, write end) that holds about `size` bytes. The read end does not block; both are close-on-exec.
///
/// # Errors
/// At the limit of open descriptors. A size that the kernel refuses is not an error: the pipe then keeps its default.
pub fn with_size(size: usize) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let _ = rustix::pipe::fcntl_setpipe_size(&read, size);
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

/// Opens a write end of the pipe that `read` reads from. Close-on-exec.
///
/// # Errors
/// When it is no pipe.
pub fn writer_of(read: impl AsFd) -> std::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", read.as_fd().as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let write = rustix::fs::open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&write)?.st_mode) == FileType::Fifo {
        Ok(write)
    } else {
        Err(std::io::ErrorKind::InvalidInput.into())
    }
}

/// Moves at most `length` bytes from a pipe to `offset` of a file.
///
/// A SIGKILL during the call leaves every byte either in the pipe or in the file: the kernel takes from the pipe exactly
/// what the file took, before it returns to a place where the signal counts.
///
/// # Errors
/// When the file takes no more (no space), or one of the descriptors is not what it should be.
pub fn splice_to_file(
    pipe: impl AsFd,
    file: &File,
    offset: u64,
    length: usize,
) -> std::io::Result<Spliced> {
    let mut offset = offset;
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    match rustix::pipe::splice(pipe, None, file, Some(&mut offset), length, flags) {
        Ok(0) => Ok(Spliced::End),
        Ok(moved) => Ok(Spliced::Moved(u64::try_from(moved).unwrap_or(u64::MAX))),
        Err(rustix::io::Errno::AGAIN) => Ok(Spliced::Empty),
        Err(error) => Err(error.into()),
    }
}

/// Gives back the memory or disk space of the first `length` bytes of a file, which then read as zeros. Size and offsets
/// of the rest stay.
///
/// # Errors
/// When the file system cannot.
pub fn forget_start(file: &File, length: u64) -> std::io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, flags, 0, length)?)
}
