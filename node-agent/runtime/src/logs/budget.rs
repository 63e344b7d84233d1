//! A bound on what the logs of all pods take together. Each container has a bound of its own, but a node has many containers: their sum
//! is a part of VAR. What goes first is what was written longest ago.
//!
//! It never touches a file that is being written, nor the one before it, which an interrupted rotation needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::read::{FileName, list, path_of};
use crate::context::Context;
use crate::event::{Event, Reason, Severity};

/// Between two looks. A container that writes as fast as it can stays within its own bound meanwhile.
const EVERY: Duration = Duration::from_secs(60);

/// The share of the file system that all logs may take where the config does not say: one part of so many.
const SHARE: u64 = 8;

/// Logs of a node with a tiny disk are worth something, too.
const LEAST: u64 = 64 << 20;

/// A log file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LogFile {
    path: PathBuf,
    bytes: u64,
    written: SystemTime,
    /// It may go.
    old: bool,
}

/// Looks until the engine is gone.
pub(crate) async fn run(context: Arc<Context>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let logs = context.paths().logs.clone();
        let budget = context.config.log_budget_bytes;
        // Fails only when the agent ends.
        let Ok(Some((files, bytes, budget))) =
            tokio::task::spawn_blocking(move || sweep(&logs, budget)).await
        else {
            continue;
        };
        let message = format!(
            "{files} old log files ({bytes} bytes) were deleted: the logs of all pods may take {budget} bytes"
        );
        let (reason, severity) = (Reason::LogsDropped, Severity::Warning);
        tracing::warn!(reason = reason.as_str(), message);
        // Nobody listening is fine: the event is also in the log.
        let _ = context.events.send(Event { reason, severity, object: "node".into(), message });
    }
}

/// Deletes what is more than `budget`, or else than the share of the file system; `None` when nothing is. Blocks.
fn sweep(logs: &Path, budget: Option<u64>) -> Option<(usize, u64, u64)> {
    let budget = match budget {
        Some(budget) => budget,
        None => {
            let disk = rustix::fs::statvfs(logs).ok()?;
            (disk.f_blocks.saturating_mul(disk.f_frsize) / SHARE).max(LEAST)
        }
    };
    let mut deleted = (0, 0);
    for file in excess(files(logs), budget) {
        match std::fs::remove_file(&file.path) {
            Ok(()) => deleted = (deleted.0 + 1, deleted.1 + file.bytes),
            Err(error) => tracing::warn!(%error, path = %file.path.display(), "delete an old log"),
        }
    }
    (deleted.0 > 0).then_some((deleted.0, deleted.1, budget))
}

/// What has to go so that the rest fits, the oldest first.
fn excess(mut files: Vec<LogFile>, budget: u64) -> Vec<LogFile> {
    let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
    files.retain(|file| file.old);
    files.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
    let too_much = |file: &LogFile| {
        let goes = bytes > budget;
        if goes {
            bytes -= file.bytes;
        }
        goes
    };
    files.into_iter().take_while(too_much).collect()
}

/// All log files of all containers: `<pod>/<container>/<file>`.
fn files(logs: &Path) -> Vec<LogFile> {
    let below = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for pod in below(logs) {
        for container in below(&pod.path()) {
            let folder = container.path();
            let names = list(&folder);
            for (place, name) in names.iter().enumerate() {
                let path = path_of(&folder, *name);
                // Rotated or deleted since it was listed.
                let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
                let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let old = is_old(&names, place);
                found.push(LogFile { path, bytes: metadata.len(), written, old });
            }
        }
    }
    found
}

/// Of the newest run, the last two files are in use.
fn is_old(names: &[FileName], place: usize) -> bool {
    let newest = names.last().map(|name| name.0);
    names.get(place).is_some_and(|name| Some(name.0) != newest) || place + 2 < names.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: u64, written_s: u64, old: bool) -> LogFile {
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(written_s);
        LogFile { path: name.into(), bytes, written, old }
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits_and_none_that_is_in_use() {
        let files = vec![
            file("a/in-use", 50, 1, false),
            file("a/newer", 30, 9, true),
            file("b/oldest", 10, 2, true),
            file("b/older", 20, 3, true),
            file("b/in-use", 5, 4, false),
        ];
        let gone = |budget| {
            let gone = excess(files.clone(), budget);
            gone.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(gone(115), [""; 0]);
        assert_eq!(gone(114), ["b/oldest"]);
        assert_eq!(gone(90), ["b/oldest", "b/older"]);
        assert_eq!(gone(0), ["b/oldest", "b/older", "a/newer"]);
    }

    #[test]
    fn what_is_more_than_the_budget_is_deleted_and_told() {
        let logs = tempfile::tempdir().unwrap();
        let folder = logs.path().join("pod/main");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["0.log", "1.log.1", "1.log.2", "1.log"] {
            std::fs::write(folder.join(name), [b'x'; 100]).unwrap();
        }
        assert_eq!(sweep(logs.path(), None), None);
        assert_eq!(sweep(logs.path(), Some(400)), None);
        assert_eq!(sweep(logs.path(), Some(350)), Some((1, 100, 350)));
        // Those in use stay, whatever the budget is.
        assert_eq!(sweep(logs.path(), Some(1)).map(|(deleted, ..)| deleted), Some(1));
        assert_eq!(list(&folder).len(), 2);
    }

    #[test]
    fn files_that_are_written_or_rotated_now_are_in_use() {
        let logs = tempfile::tempdir().unwrap();
        let folder = logs.path().join("pod/main");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["0.log.0", "0.log", "1.log.7", "1.log.8", "1.log", "other"] {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        let mut old: Vec<String> = files(logs.path())
            .iter()
            .filter(|file| file.old)
            .map(|file| file.path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        old.sort();
        assert_eq!(old, ["0.log", "0.log.0", "1.log.7"]);
    }
}
