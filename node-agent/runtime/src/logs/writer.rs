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
//! When the log cannot be written (VAR is full), lines are dropped by moving the offsets on in a checkpoint; the number is
//! reported. A container is never blocked by a full disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ingot_linux::pipe::{self, Spliced};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LogStream, format};
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

/// Where the files of one run are.
#[derive(Clone, Debug)]
pub(crate) struct LogPaths {
    /// Folder of the log files, on VAR.
    pub(crate) logs: PathBuf,
    /// Folder of spools and checkpoint, on tmpfs.
    pub(crate) scratch: PathBuf,
    /// Number of the run.
    pub(crate) attempt: u32,
}

impl LogPaths {
    /// The file being written.
    pub(crate) fn current(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.attempt))
    }

    /// A file that is full.
    pub(crate) fn rotated(&self, segment: u32) -> PathBuf {
        self.logs.join(format!("{}.log.{segment}", self.attempt))
    }

    fn spool(&self, stream: LogStream) -> PathBuf {
        self.scratch.join(format!("{}.spool", stream.as_str()))
    }

    fn checkpoint(&self) -> PathBuf {
        self.scratch.join("log.json")
    }
}

/// At `length` bytes of segment `segment`, so many bytes of each stream were in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    segment: u32,
    length: u64,
    /// Standard output, standard error.
    formatted: [u64; 2],
}

struct Spool {
    file: File,
    /// Bytes ever moved into it.
    length: u64,
    /// Bytes given back.
    forgotten: u64,
}

/// Writes the log of one run.
pub(crate) struct LogWriter {
    paths: LogPaths,
    limits: LogLimits,
    spools: [Spool; 2],
    file: File,
    /// Where the log stands.
    now: Checkpoint,
    /// Where it stood at the last checkpoint on disk.
    saved: Checkpoint,
    dropped: u64,
    buffer: Vec<u8>,
}

const fn index(stream: LogStream) -> usize {
    match stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
    }
}

impl LogWriter {
    /// Takes up the log where it is, at the first start or after a kill.
    pub(crate) fn open(paths: LogPaths, limits: LogLimits) -> io::Result<Self> {
        let spool = |stream| -> io::Result<Spool> {
            let mut options = OpenOptions::new();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(paths.spool(stream))?;
            let length = file.metadata()?.len();
            Ok(Spool { file, length, forgotten: 0 })
        };
        let spools = [spool(LogStream::Stdout)?, spool(LogStream::Stderr)?];
        let saved = read_checkpoint(&paths.checkpoint())?;
        super::prune::earlier(&paths.logs, paths.attempt, limits);
        let begins = saved == Checkpoint::default() && spools.iter().all(|spool| spool.length == 0);
        if begins {
            // Whatever carries our number was written by a run of an earlier life of this pod, and would be counted as
            // bytes of this one.
            super::prune::from(&paths.logs, paths.attempt);
        }
        finish_rotation(&paths, saved.segment)?;
        let file = open_log(&paths.current())?;
        let now = recount(&file, saved)?;
        let mut writer =
            Self { paths, limits, spools, file, now, saved, dropped: 0, buffer: Vec::new() };
        // What was in the spools before the kill.
        writer.format(LogStream::Stdout, false);
        writer.format(LogStream::Stderr, false);
        Ok(writer)
    }

    /// Moves what the pipe holds, at most 256 KiB, and writes the lines. Says what stopped it: nothing left, nobody who
    /// could write, or the bound.
    pub(crate) fn pump(&mut self, stream: LogStream, pipe: impl AsFd) -> io::Result<Spliced> {
        let mut last = Spliced::Empty;
        for _ in 0..4 {
            let Some(spool) = self.spools.get_mut(index(stream)) else { break };
            last = pipe::splice_to_file(&pipe, &spool.file, spool.length, CHUNK)?;
            let Spliced::Moved(moved) = last else { break };
            spool.length += moved;
            self.format(stream, false);
        }
        Ok(last)
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
        let mut bytes = vec![0; length];
        spool.file.read_exact_at(&mut bytes, from)?;
        // The end of a chunk is not the end of the stream.
        let end = end && u64::try_from(length).is_ok_and(|length| length == available);
        self.buffer.clear();
        let taken = format::append_lines(&mut self.buffer, stream, Timestamp::now(), &bytes, end);
        if taken == 0 {
            return Ok(0);
        }
        self.file.write_all_at(&self.buffer, self.now.length)?;
        self.now.length += u64::try_from(self.buffer.len()).unwrap_or(0);
        if let Some(formatted) = self.now.formatted.get_mut(at) {
            *formatted += u64::try_from(taken).unwrap_or(0);
        }
        if self.now.length >= self.limits.file_bytes {
            self.rotate()?;
        } else if self.now.length - self.saved.length >= CHECKPOINT_EVERY {
            self.save_checkpoint(self.now)?;
        }
        Ok(taken)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let full = self.now.segment;
        let next = Checkpoint { segment: full + 1, length: 0, formatted: self.now.formatted };
        self.save_checkpoint(next)?;
        finish_rotation(&self.paths, next.segment)?;
        self.file = open_log(&self.paths.current())?;
        self.now = next;
        let kept = self.limits.files.max(2) - 1;
        if let Some(oldest) = next.segment.checked_sub(kept + 1) {
            // Gone already when an older limit was smaller.
            let _ = std::fs::remove_file(self.paths.rotated(oldest));
        }
        Ok(())
    }

    fn save_checkpoint(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        let bytes = serde_json::to_vec(&checkpoint)?;
        replace(&self.paths.checkpoint(), &bytes, Survives::Kill).map_err(io::Error::other)?;
        self.saved = checkpoint;
        Ok(())
    }

    /// Gives up what is in the spool of a stream, so that a full disk does not block the container.
    fn drop_spooled(&mut self, stream: LogStream) -> u64 {
        let at = index(stream);
        // A torn line must not stay: lines are counted from the file.
        if let Err(error) = self.file.set_len(self.now.length) {
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

/// Renames the file of the segment before `segment`, unless that was done.
fn finish_rotation(paths: &LogPaths, segment: u32) -> io::Result<()> {
    let Some(full) = segment.checked_sub(1) else { return Ok(()) };
    let rotated = paths.rotated(full);
    if rotated.try_exists()? {
        return Ok(());
    }
    match std::fs::rename(paths.current(), rotated) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Counts what the log holds beyond a checkpoint, and cuts a torn last line.
fn recount(file: &File, from: Checkpoint) -> io::Result<Checkpoint> {
    let mut now = from;
    let end = file.metadata()?.len();
    // A run's bytes beyond the checkpoint are few; see CHECKPOINT_EVERY.
    let length = usize::try_from(end.saturating_sub(from.length)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, from.length)?;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        if let Some((stream, length)) = format::stream_length(line)
            && let Some(formatted) = now.formatted.get_mut(index(stream))
        {
            *formatted += length;
        }
        now.length += u64::try_from(line.len()).unwrap_or(0) + 1;
    }
    if now.length < end {
        file.set_len(now.length)?;
    }
    Ok(now)
}

#[cfg(test)]
mod tests;
