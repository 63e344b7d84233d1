//! Sends what was written to a file on its way to the disk. It never waits, and promises nothing: what must last is synchronised.
#![expect(unsafe_code, reason = "sync_file_range has no safe wrapper")]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _};

/// Starts writing these bytes of a file to the disk, sync_file_range(2) with `SYNC_FILE_RANGE_WRITE`. An end of 0 is that of the file.
///
/// Pages on their way are clean sooner than the kernel would begin with them. A cgroup with little memory has a small share of
/// dirty pages; who reaches it is held up for milliseconds a page, however fast the disk is.
///
/// # Errors
/// On what is no file, or when an earlier write of it failed (`EIO`, `ENOSPC`).
pub fn begin(file: impl AsFd, bytes: Range<u64>) -> io::Result<()> {
    let offset = |at: u64| libc::off64_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput);
    let start = offset(bytes.start)?;
    let length = if bytes.end == 0 { 0 } else { offset(bytes.end.saturating_sub(bytes.start))? };
    // SAFETY: the descriptor is open for the call, and no memory is passed.
    let result = unsafe {
        libc::sync_file_range(file.as_fd().as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_is_sent_and_a_pipe_is_not() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(&[7; 8192]).expect("write");
        begin(&file, 4096..8192).expect("a part");
        begin(&file, 0..0).expect("all of it");
        let (_read, write) = crate::pipe::with_size(4096).expect("pipe");
        let error = begin(&write, 0..0).expect_err("a pipe has no disk");
        assert_eq!(error.raw_os_error(), Some(libc::ESPIPE));
    }
}
