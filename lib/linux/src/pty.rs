//! Pseudo terminals: made in a devpts that somebody else may control, their size, and moving their output into a pipe.
//!
//! It knows nothing of who uses them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::pipe::SpliceFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::pipe::Spliced;

/// Where every devpts of a container is mounted.
const PTMX: &str = "/dev/pts/ptmx";

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Number that devpts gives the file `ptmx` (`PTMX_MINOR` of `fs/devpts/inode.c`).
const PTMX_INODE: u64 = 2;

/// A terminal: the side that reads what programs print, and the side that programs get.
#[derive(Debug)]
pub struct Pair {
    /// Reads the output, writes the input.
    pub master: OwnedFd,
    /// Becomes descriptors 0, 1 and 2.
    pub slave: OwnedFd,
}

/// Makes a terminal in the devpts at `/dev/pts`, as the caller's mount namespace has it. Everything there may have been
/// replaced by a hostile program (CVE-2025-52565): what is not the real thing is refused, and the slave is taken from the
/// master, not by its path. Both are close-on-exec; neither becomes the caller's controlling terminal.
///
/// # Errors
/// `InvalidData` when `/dev/pts/ptmx` is something else; else why the kernel refuses.
pub fn open() -> io::Result<Pair> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let master = rustix::fs::openat2(CWD, PTMX, flags, Mode::empty(), resolve)?;
    if !is_ptmx(&master)? {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "/dev/pts/ptmx is no terminal"));
    }
    rustix::pty::unlockpt(&master)?;
    let slave = slave_of(&master)?;
    Ok(Pair { master, slave })
}

fn is_ptmx(file: impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(&file)?;
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(rustix::fs::fstatfs(&file)?.f_type == DEVPTS_MAGIC
        && FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_ino == PTMX_INODE
        && device == (5, 2))
}

/// Opens the slave of a master, whatever its path is and in whatever mount namespace. Close-on-exec.
///
/// # Errors
/// When `master` is no master of a terminal.
pub fn slave_of(master: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(master, flags)?)
}

/// Says how many columns and rows it has; its foreground programs get SIGWINCH when that changes.
///
/// # Errors
/// When it is no terminal.
pub fn set_size(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// How many columns and rows it has.
///
/// # Errors
/// When it is no terminal.
pub fn size(terminal: impl AsFd) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_col, size.ws_row))
}

/// Moves at most `length` bytes of output from a non-blocking master into a pipe. A SIGKILL during the call leaves every
/// byte in one of the two. [`Spliced::End`] when no program has the slave open.
///
/// # Errors
/// When the pipe is no pipe or has no reader.
pub fn splice_to_pipe(master: impl AsFd, pipe: impl AsFd, length: usize) -> io::Result<Spliced> {
    let flags = SpliceFlags::NONBLOCK;
    match rustix::pipe::splice(master, None, pipe, None, length, flags) {
        // The kernel's way to say that the other side is closed.
        Ok(0) | Err(rustix::io::Errno::IO) => Ok(Spliced::End),
        Ok(moved) => Ok(Spliced::Moved(u64::try_from(moved).unwrap_or(u64::MAX))),
        Err(rustix::io::Errno::AGAIN) => Ok(Spliced::Empty),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn output_of_a_terminal_passes_through_a_pipe_without_loss() {
        let Ok(Pair { master, slave }) = open() else { return };
        let (read, write) = crate::pipe::with_size(1 << 16).expect("pipe");
        assert_eq!(splice_to_pipe(&master, &write, 4096).expect("nothing"), Spliced::Empty);
        let mut program = std::fs::File::from(slave.try_clone().expect("clone"));
        program.write_all(b"hello\n").expect("print");
        // The terminal turns a line feed into two bytes.
        assert_eq!(splice_to_pipe(&master, &write, 4096).expect("move"), Spliced::Moved(7));
        let mut bytes = [0; 16];
        let mut read = std::fs::File::from(read);
        let length = read.read(&mut bytes).expect("read");
        assert_eq!(bytes.get(..length), Some(&b"hello\r\n"[..]));
        drop((program, slave));
        assert_eq!(splice_to_pipe(&master, &write, 4096).expect("closed"), Spliced::End);
        // Whoever opens the slave again brings it back to life.
        let _again = slave_of(&master).expect("slave");
        assert_eq!(splice_to_pipe(&master, &write, 4096).expect("open"), Spliced::Empty);
    }

    #[test]
    fn both_sides_see_the_size() {
        let Ok(Pair { master, slave }) = open() else { return };
        set_size(&master, 132, 43).expect("set");
        assert_eq!(size(&slave).expect("get"), (132, 43));
    }

    #[test]
    fn a_file_in_place_of_the_terminal_is_refused() {
        let file = tempfile::tempfile().expect("file");
        assert!(!is_ptmx(&file).expect("look"));
        assert!(!is_ptmx(std::fs::File::open("/dev/null").expect("null")).expect("look"));
    }
}
