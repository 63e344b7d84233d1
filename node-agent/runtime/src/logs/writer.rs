//! From the bytes of a container to its log files, each byte exactly once, whatever kills the agent when.
//!
//! Two hops. First, bytes move from the pipe to the end of a *spool* file on tmpfs, with splice(2): a SIGKILL leaves each
//! byte in one of the two. Then lines are formatted from the spool into the log file. How far that has come is not written
//! down separately: it is counted from the log file itself, so a kill between two writes cannot make them disagree.
//!
//! Steps, each of which may be the last one before a kill, and what [`LogWriter::open`] does about it:
//! 1. splice from the pipe: the size of the spool tells how far it came;
//! 2. write lines to the log: the torn last line is cut, the complete ones are counted;
//! 3. checkpoint (a small file, replaced in one step, that says "at this length of this segment the streams were at these
//!    offsets"): only saves counting from the start;
//! 4. rotation: the checkpoint of the next segment is written first, then the file is renamed, then the new one is begun;
//!    a missing rename is made up;
//! 5. forgetting the formatted start of the spool: frees memory, changes no offset.
//!
//! A file that somebody else rotates has its device and inode in the checkpoint: it is found again under whatever name it
//! was given while no agent ran.
//!
//! When the log cannot be written (VAR is full), lines are dropped by moving the offsets on in a checkpoint; the number is
//! reported. A container is never blocked by a full disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ingot_linux::pipe::{self, Spliced};
use jiff::Timestamp;

use super::place::{Checkpoint, Place};
use super::{LogStream, LogTarget, format};
use crate::durable::{Survives, replace};

/// Bytes moved or formatted at a time.
const CHUNK: usize = 64 * 1024;

/// Bytes written to the log between two checkpoints: what has to be counted after a restart.
const CHECKPOINT_EVERY: u64 = 256 * 1024;

/// Formatted bytes of a spool that may wait to be given back.
const FORGET_EVERY: u64 = 256 * 1024;

/// Bounds of the log files of one run of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// A file is rotated at this size.
    pub file_bytes: u64,
    /// Files kept, the one being written included; at least 2.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { file_bytes: 10 << 20, files: 5 }
    }
}

struct Spool {
    file: File,
    /// Bytes ever moved into it.
    length: u64,
    /// Bytes given back.
    forgotten: u64,
}

/// Is shown what comes out of a pipe.
pub(crate) type Tap<'a> = &'a mut dyn FnMut(&[u8]);

/// Writes the log of one run.
pub(crate) struct LogWriter {
    checkpoint: PathBuf,
    place: Place,
    spools: [Spool; 2],
    /// Where the log stands.
    now: Checkpoint,
    /// Where it stood at the last checkpoint on disk.
    saved: Checkpoint,
    dropped: u64,
    buffer: Vec<u8>,
}

pub(super) const fn index(stream: LogStream) -> usize {
    match stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
    }
}

impl LogWriter {
    /// Takes up the log where it is, at the first start or after a kill.
    pub(crate) fn open(target: LogTarget) -> io::Result<Self> {
        let scratch = target.scratch().to_owned();
        let spool = |stream: LogStream| -> io::Result<Spool> {
            let mut options = OpenOptions::new();
            let path = scratch.join(format!("{}.spool", stream.as_str()));
            let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
            let length = file.metadata()?.len();
            Ok(Spool { file, length, forgotten: 0 })
        };
        let spools = [spool(LogStream::Stdout)?, spool(LogStream::Stderr)?];
        let checkpoint = scratch.join("log.json");
        let saved = read_checkpoint(&checkpoint)?;
        let begins = saved == Checkpoint::default() && spools.iter().all(|spool| spool.length == 0);
        let (place, now) = Place::open(target, saved, begins)?;
        let (dropped, buffer) = (0, Vec::new());
        let mut writer = Self { checkpoint, place, spools, now, saved, dropped, buffer };
        // What was in the spools before the kill.
        writer.format(LogStream::Stdout, false);
        writer.format(LogStream::Stderr, false);
        Ok(writer)
    }

    /// Moves what the pipe holds, at most 256 KiB, and writes the lines. Says what stopped it: nothing left, nobody who
    /// could write, or the bound. `tap` is shown each byte once, as long as this agent lives.
    pub(crate) fn pump(
        &mut self,
        stream: LogStream,
        pipe: impl AsFd,
        tap: Option<Tap<'_>>,
    ) -> io::Result<Spliced> {
        let mut last = Spliced::Empty;
        let mut tap = tap;
        for _ in 0..4 {
            let Some(spool) = self.spools.get_mut(index(stream)) else { break };
            let from = spool.length;
            last = pipe::splice_to_file(&pipe, &spool.file, from, CHUNK)?;
            let Spliced::Moved(moved) = last else { break };
            spool.length += moved;
            if let Some(tap) = &mut tap {
                let mut bytes = vec![0; usize::try_from(moved).unwrap_or(CHUNK)];
                spool.file.read_exact_at(&mut bytes, from)?;
                tap(&bytes);
            }
            self.format(stream, false);
        }
        Ok(last)
    }

    /// Whether somebody renamed the file and nobody has asked for another one.
    pub(crate) fn is_renamed(&self) -> bool {
        self.place.is_renamed()
    }

    /// Goes on in the file that has the log's path now, made when there is none. Lines are never divided between the two.
    ///
    /// # Errors
    /// When that cannot be done; then no file is made and the old one is written on.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        let Some(reopened) = self.place.reopen()? else { return Ok(()) };
        let (length, file) = (reopened.length, Some(reopened.id));
        let next = Checkpoint { segment: 0, length, formatted: self.now.formatted, file };
        if let Err(error) = self.save_checkpoint(next) {
            self.place.give_up(&reopened);
            return Err(error);
        }
        self.place.go_on_with(reopened);
        self.now = next;
        Ok(())
    }

    /// Nothing will follow: writes unfinished last lines too.
    pub(crate) fn finish(&mut self) {
        self.format(LogStream::Stdout, true);
        self.format(LogStream::Stderr, true);
    }

    /// Bytes that could not be written to the log since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn format(&mut self, stream: LogStream, end: bool) {
        loop {
            match self.format_chunk(stream, end) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let lost = self.drop_spooled(stream);
                    tracing::warn!(%error, lost, "write container log");
                    break;
                }
            }
        }
        self.forget(stream);
    }

    /// Formats one chunk; 0 when there is nothing to format.
    fn format_chunk(&mut self, stream: LogStream, end: bool) -> io::Result<usize> {
        let at = index(stream);
        let (Some(spool), Some(&from)) = (self.spools.get(at), self.now.formatted.get(at)) else {
            return Ok(0);
        };
        let available = spool.length.saturating_sub(from);
        let length = usize::try_from(available).unwrap_or(CHUNK).min(CHUNK);
        if length == 0 {
            return Ok(0);
        }
        if matches!(self.place, Place::Nowhere) {
            if let Some(formatted) = self.now.formatted.get_mut(at) {
                *formatted = spool.length;
            }
            return Ok(length);
        }
        let mut bytes = vec![0; length];
        spool.file.read_exact_at(&mut bytes, from)?;
        // The end of a chunk is not the end of the stream.
        let end = end && u64::try_from(length).is_ok_and(|length| length == available);
        self.buffer.clear();
        let taken = format::append_lines(&mut self.buffer, stream, Timestamp::now(), &bytes, end);
        if taken == 0 {
            return Ok(0);
        }
        if self.now.file != self.saved.file {
            // Before the first line: from here on it is counted from this file. Many containers never write one.
            self.save_checkpoint(self.now)?;
        }
        self.place.write_at(&self.buffer, self.now.length)?;
        self.now.length += u64::try_from(self.buffer.len()).unwrap_or(0);
        if let Some(formatted) = self.now.formatted.get_mut(at) {
            *formatted += u64::try_from(taken).unwrap_or(0);
        }
        if self.place.is_full(self.now.length) {
            self.rotate()?;
        } else if self.now.length - self.saved.length >= CHECKPOINT_EVERY {
            self.save_checkpoint(self.now)?;
        }
        Ok(taken)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let segment = self.now.segment + 1;
        let next = Checkpoint { segment, length: 0, ..self.now };
        self.save_checkpoint(next)?;
        self.place.rotate(segment)?;
        self.now = next;
        Ok(())
    }

    fn save_checkpoint(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        let bytes = serde_json::to_vec(&checkpoint)?;
        replace(&self.checkpoint, &bytes, Survives::Kill).map_err(io::Error::other)?;
        self.saved = checkpoint;
        Ok(())
    }

    /// Gives up what is in the spool of a stream, so that a full disk does not block the container.
    fn drop_spooled(&mut self, stream: LogStream) -> u64 {
        let at = index(stream);
        // A torn line must not stay: lines are counted from the file.
        if let Err(error) = self.place.cut(self.now.length) {
            tracing::warn!(%error, "cut container log");
        }
        let mut next = self.now;
        let (Some(spool), Some(formatted)) = (self.spools.get(at), next.formatted.get_mut(at))
        else {
            return 0;
        };
        let lost = spool.length.saturating_sub(*formatted);
        *formatted = spool.length;
        match self.save_checkpoint(next) {
            Ok(()) => {
                self.now = next;
                self.dropped += lost;
                lost
            }
            // Not even tmpfs takes a byte: keep the spool and try again with the next bytes.
            Err(_) => 0,
        }
    }

    fn forget(&mut self, stream: LogStream) {
        let at = index(stream);
        let (Some(spool), Some(&formatted)) = (self.spools.get_mut(at), self.now.formatted.get(at))
        else {
            return;
        };
        if formatted - spool.forgotten.min(formatted) >= FORGET_EVERY {
            // A failure costs memory only, and is tried again with the next bytes.
            if pipe::forget_start(&spool.file, formatted & !0xfff).is_ok() {
                spool.forgotten = formatted;
            }
        }
    }
}

fn read_checkpoint(path: &Path) -> io::Result<Checkpoint> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Checkpoint::default()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
