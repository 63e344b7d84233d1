//! The kernel log: writing lines to it and reading its records.
//!
//! Writing allocates nothing and cannot fail in a way the caller must handle.

use std::fmt::{self, Write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// The log could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum KmsgError {
    /// Opening `/dev/kmsg`.
    #[error("open /dev/kmsg")]
    Open(#[source] io::Error),
    /// Reading a record.
    #[error("read /dev/kmsg")]
    Read(#[source] io::Error),
}

/// Severity of a line, as syslog numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// The machine is unusable.
    Emergency = 0,
    /// Something must be done at once.
    Critical = 2,
    /// Something failed.
    Error = 3,
    /// Something is wrong and was dealt with.
    Warning = 4,
    /// What an operator wants to see.
    Notice = 5,
    /// What explains the rest.
    Info = 6,
    /// Everything else.
    Debug = 7,
}

/// Longest record the kernel takes from a writer.
const LINE_MAX: usize = 976;

/// Writes lines to the kernel log.
#[derive(Debug)]
pub struct KmsgWriter {
    fd: OwnedFd,
    program: &'static str,
}

impl KmsgWriter {
    /// Opens the log; each line will open with `program: `.
    ///
    /// # Errors
    /// When there is no `/dev/kmsg`.
    pub fn open(program: &'static str) -> Result<Self, KmsgError> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = rustix::fs::open(c"/dev/kmsg", flags, Mode::empty())
            .map_err(|source| KmsgError::Open(source.into()))?;
        Ok(Self { fd, program })
    }

    /// Writes one line. What is too long is cut; what the kernel refuses is lost: there is nowhere else to say it.
    pub fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        let mut line = Line { bytes: [0; LINE_MAX], length: 0 };
        // Facility 3 (daemon), so that readers can tell our lines from the kernel's own.
        let _ = write!(line, "<{}>{}: ", (3 << 3) | (level as u8), self.program);
        let _ = line.write_fmt(text);
        let _ = rustix::io::write(&self.fd, line.bytes.get(..line.length).unwrap_or_default());
    }
}

impl AsFd for KmsgWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A line being made; drops what does not fit and turns line ends into spaces, so that one call is one record.
struct Line {
    bytes: [u8; LINE_MAX],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        for (place, byte) in room.iter_mut().zip(text.bytes()) {
            *place = if byte == b'\n' { b' ' } else { byte };
            self.length = self.length.saturating_add(1);
        }
        Ok(())
    }
}

/// From now on the consoles show lines up to [`Level::Notice`], also on a machine booted with `quiet`: for times when a
/// person may stand before it and wonder. Best effort.
pub fn show_notices_on_consoles() {
    let _ = std::fs::write("/proc/sys/kernel/printk", "6");
}

/// One record of the kernel log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Severity, 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Facility: 0 is the kernel itself, others are programs.
    pub facility: u32,
    /// Number of the record; without gaps as long as nothing is lost.
    pub sequence: u64,
    /// Microseconds since boot.
    pub time_us: u64,
    /// The text, without control characters.
    pub text: String,
}

/// What reading gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record.
    Record(Record),
    /// Records were overwritten before they were read; reading goes on with the oldest left.
    Lost,
    /// Nothing new; poll the descriptor.
    Empty,
}

/// Reads the kernel log from its oldest record on.
#[derive(Debug)]
pub struct KmsgReader {
    fd: OwnedFd,
}

impl KmsgReader {
    /// Opens the log. Reading never waits.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open() -> Result<Self, KmsgError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(c"/dev/kmsg", flags, Mode::empty())
            .map_err(|source| KmsgError::Open(source.into()))?;
        Ok(Self { fd })
    }

    /// Skips everything that is there already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn skip_to_end(&self) -> Result<(), KmsgError> {
        rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::End(0))
            .map(drop)
            .map_err(|source| KmsgError::Read(source.into()))
    }

    /// The next record, without waiting.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn next(&self) -> Result<Next, KmsgError> {
        // Larger than any record: the kernel gives EINVAL for a buffer that is too small.
        let mut buffer = [0; 8192];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                parse(&text)
                    .map(Next::Record)
                    .ok_or_else(|| KmsgError::Read(io::ErrorKind::InvalidData.into()))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Next::Empty),
            Err(rustix::io::Errno::PIPE) => Ok(Next::Lost),
            Err(source) => Err(KmsgError::Read(source.into())),
        }
    }
}

impl AsFd for KmsgReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `30,1234,5678901,-;text`, then lines of key=value that open with a space and are left out.
fn parse(record: &str) -> Option<Record> {
    let (prefix, rest) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let time_us = fields.next()?.parse().ok()?;
    let text =
        rest.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    Some(Record {
        level: u8::try_from(priority & 7).ok()?,
        facility: priority >> 3,
        sequence,
        time_us,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_taken_apart_and_its_dictionary_left_out() {
        let record =
            parse("30,339,5140900,-;ingot-init: started\n SUBSYSTEM=x\n").expect("a record");
        assert_eq!(
            (record.level, record.facility, record.sequence, record.time_us),
            (6, 3, 339, 5_140_900)
        );
        assert_eq!(record.text, "ingot-init: started");
        assert_eq!(parse("no record"), None);
    }

    #[test]
    fn a_long_line_is_cut_and_line_ends_do_not_make_records() {
        let mut line = Line { bytes: [0; LINE_MAX], length: 0 };
        let _ = line.write_str("a\nb");
        assert_eq!(&line.bytes[..line.length], b"a b");
        let _ = line.write_str(&"x".repeat(5000));
        assert_eq!(line.length, LINE_MAX);
    }
}
