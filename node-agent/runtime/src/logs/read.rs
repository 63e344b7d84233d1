//! Reading container logs back: oldest first, from the newest lines on, following across rotation and restarts.
//!
//! Only complete lines are given out, so a reader never sees what a kill of the agent may cut off again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{LogError, LogLine, LogRequest, format};
use crate::context::Context;
use crate::status::PodStatus;

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// Lines read ahead of a slow caller.
const AHEAD: usize = 64;

/// A follower looks this often even when nobody says that there is something new: at a new run, for example.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Opens the log of a container of `pods`.
pub(crate) fn open(
    context: &Context,
    pods: &[Arc<PodStatus>],
    request: &LogRequest,
) -> Result<impl Stream<Item = Result<LogLine, LogError>> + Send + use<>, LogError> {
    let namespace =
        if request.namespace.is_empty() { "default" } else { request.namespace.as_str() };
    let pod = pods
        .iter()
        .find(|pod| pod.namespace == namespace && pod.name == request.pod)
        .ok_or_else(|| LogError::NoPod { namespace: namespace.into(), pod: request.pod.clone() })?;
    let container = choose(pod, &request.container)?;
    let folder = context.paths().logs.join(&pod.uid).join(&container);
    let changes = context.log_signal(&pod.uid, &container).subscribe();
    let (lines, receiver) = mpsc::channel(AHEAD);
    let reader = Reader { folder, follow: request.follow, changes, lines };
    let (tail, all) = (request.tail_lines, request.all_attempts);
    tokio::spawn(async move { reader.run(tail, all).await });
    Ok(ReceiverStream::new(receiver))
}

fn choose(pod: &PodStatus, wanted: &str) -> Result<String, LogError> {
    let known = || pod.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    if wanted.is_empty() {
        return match pod.containers.as_slice() {
            [only] => Ok(only.name.clone()),
            _ => Err(LogError::Ambiguous { known: known() }),
        };
    }
    match pod.containers.iter().find(|c| c.name == wanted) {
        Some(container) => Ok(container.name.clone()),
        None => Err(LogError::NoContainer { container: wanted.to_owned(), known: known() }),
    }
}

/// One file of a log: run, and segment (`None` is the one being written).
pub(super) type FileName = (u32, Option<u32>);

pub(super) fn path_of(folder: &Path, (attempt, segment): FileName) -> PathBuf {
    folder.join(match segment {
        Some(segment) => format!("{attempt}.log.{segment}"),
        None => format!("{attempt}.log"),
    })
}

/// The files in a folder of logs, oldest first.
pub(super) fn list(folder: &Path) -> Vec<FileName> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((attempt, rest)) = name.to_str().and_then(|name| name.split_once('.')) else {
            continue;
        };
        let Ok(attempt) = attempt.parse::<u32>() else { continue };
        match rest.strip_prefix("log") {
            // Sorts behind every number.
            Some("") => drop(files.insert((attempt, u64::MAX))),
            Some(segment) => {
                if let Some(Ok(segment)) = segment.strip_prefix('.').map(str::parse::<u32>) {
                    files.insert((attempt, u64::from(segment)));
                }
            }
            None => {}
        }
    }
    files.into_iter().map(|(attempt, segment)| (attempt, u32::try_from(segment).ok())).collect()
}

struct Reader {
    folder: PathBuf,
    follow: bool,
    changes: watch::Receiver<u64>,
    lines: mpsc::Sender<Result<LogLine, LogError>>,
}

/// Where a reader stands.
struct Cursor {
    name: FileName,
    /// The segment it is or will become, to find its successor.
    segment: u32,
    file: File,
    offset: u64,
}

impl Reader {
    async fn run(mut self, tail: u32, all_attempts: bool) {
        let mut cursor = match self.first(tail, all_attempts) {
            Ok(cursor) => cursor,
            Err(error) => return self.fail(error).await,
        };
        loop {
            let before = *self.changes.borrow_and_update();
            let moved = match &mut cursor {
                Some(cursor) => self.read_on(cursor).await,
                None => Ok(Some(false)),
            };
            match moved {
                Ok(Some(true)) => continue,
                Ok(Some(false)) => {}
                // Nobody listens any more.
                Ok(None) => return,
                Err(error) => return self.fail((cursor.map(|c| c.name), error)).await,
            }
            match self.successor(cursor.as_ref()) {
                Ok(Some(next)) => cursor = Some(next),
                Ok(None) if !self.follow => return,
                Ok(None) => {
                    let changed = self.changes.wait_for(|count| *count != before);
                    // An elapsed wait is a look; a closed channel means that the pod is gone.
                    if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, changed).await {
                        return;
                    }
                    if self.lines.is_closed() {
                        return;
                    }
                }
                Err(error) => return self.fail((cursor.map(|c| c.name), error)).await,
            }
        }
    }

    async fn fail(&self, (name, source): (Option<FileName>, io::Error)) {
        let path = name.map_or_else(|| self.folder.clone(), |name| path_of(&self.folder, name));
        // Nobody listens any more: then nobody needs to know.
        let _ = self.lines.send(Err(LogError::Read { path, source })).await;
    }

    /// Where to begin.
    fn first(
        &self,
        tail: u32,
        all_attempts: bool,
    ) -> Result<Option<Cursor>, (Option<FileName>, io::Error)> {
        let mut files = list(&self.folder);
        let newest = files.last().map(|(attempt, _)| *attempt);
        files.retain(|(attempt, _)| all_attempts || Some(*attempt) == newest);
        let mut missing = u64::from(tail);
        let mut candidate = None;
        for name in files.into_iter().rev() {
            let failed = |error| (Some(name), error);
            let Some(mut cursor) = self.open(name).map_err(failed)? else { continue };
            if tail > 0 {
                let (offset, found) = tail_offset(&cursor.file, missing).map_err(failed)?;
                cursor.offset = offset;
                missing -= found;
            }
            candidate = Some(cursor);
            if tail > 0 && missing == 0 {
                break;
            }
        }
        Ok(candidate)
    }

    fn open(&self, name: FileName) -> io::Result<Option<Cursor>> {
        loop {
            let before = self.next_segment(name.0);
            let file = match File::open(path_of(&self.folder, name)) {
                Ok(file) => file,
                // Rotated away or removed since it was listed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e),
            };
            // The number of the file being written is only certain if none was rotated while it was opened.
            if name.1.is_some() || before == self.next_segment(name.0) {
                let segment = name.1.unwrap_or(before);
                return Ok(Some(Cursor { name, segment, file, offset: 0 }));
            }
        }
    }

    fn next_segment(&self, attempt: u32) -> u32 {
        let segments = list(&self.folder).into_iter().filter(|(of, _)| *of == attempt);
        segments.filter_map(|(_, segment)| segment).max().map_or(0, |newest| newest + 1)
    }

    /// The file after the one that is read to its end; `None` when that one is still being written.
    fn successor(&self, cursor: Option<&Cursor>) -> io::Result<Option<Cursor>> {
        let Some(cursor) = cursor else {
            return Ok(match list(&self.folder).first() {
                Some(&name) => self.open(name)?,
                None => None,
            });
        };
        let attempt = cursor.name.0;
        let current = path_of(&self.folder, (attempt, None));
        let rotated = match std::fs::metadata(&current) {
            Ok(now) => now.ino() != cursor.file.metadata()?.ino(),
            Err(_) => true,
        };
        if rotated {
            let files = list(&self.folder).into_iter().filter(|(of, _)| *of == attempt);
            let later = |name: &FileName| name.1.is_none_or(|segment| segment > cursor.segment);
            let next = files.filter(later).min_by_key(|(_, segment)| segment.unwrap_or(u32::MAX));
            if let Some(next) = next {
                return self.open(next);
            }
        }
        let later = list(&self.folder).into_iter().find(|(of, _)| *of > attempt);
        later.map_or(Ok(None), |name| self.open(name))
    }

    /// Gives out the next complete lines. `Some(false)`: there are none; `None`: nobody listens.
    async fn read_on(&self, cursor: &mut Cursor) -> io::Result<Option<bool>> {
        let mut bytes = vec![0; CHUNK];
        let length = cursor.file.read_at(&mut bytes, cursor.offset)?;
        bytes.truncate(length);
        let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(Some(false));
        };
        bytes.truncate(end);
        for line in bytes.split(|&byte| byte == b'\n') {
            // What is no line of ours was damaged by a loss of power; the rest is still worth reading.
            let Some(line) = format::parse(line, cursor.name.0) else { continue };
            if self.lines.send(Ok(line)).await.is_err() {
                return Ok(None);
            }
        }
        cursor.offset += u64::try_from(end).unwrap_or(0) + 1;
        Ok(Some(true))
    }
}

/// Where the newest `wanted` lines of a file begin, and how many there are.
fn tail_offset(file: &File, wanted: u64) -> io::Result<(u64, u64)> {
    let mut position = file.metadata()?.len();
    let mut found = 0;
    let mut bytes = vec![0; CHUNK];
    // The line feed that ends the newest line begins nothing.
    let mut ends = 0;
    while position > 0 && found < wanted {
        let length = CHUNK.min(usize::try_from(position).unwrap_or(CHUNK));
        let start = position - u64::try_from(length).unwrap_or(0);
        let chunk = bytes.get_mut(..length).unwrap_or_default();
        file.read_exact_at(chunk, start)?;
        for (at, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if ends == wanted {
                return Ok((start + u64::try_from(at).unwrap_or(0) + 1, wanted));
            }
            ends += 1;
        }
        found = ends.saturating_sub(1);
        position = start;
    }
    Ok((0, ends.min(wanted)))
}

#[cfg(test)]
mod tests;
