//! The last words of a container: the file it may write them to, or the end of its log.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use ingot_machine_config::v1::pod::TerminationMessagePolicy;
use rustix::fs::{Mode, OFlags};

/// Longest message, in bytes: upstream's.
const MESSAGE_MAX: usize = 4096;

/// How much of a log is told instead: upstream's bytes and lines.
const LOG_BYTES_MAX: u64 = 2048;
const LOG_LINES_MAX: usize = 80;

/// Where the last words of one run are.
pub(super) struct Words {
    /// The file that the container may write.
    pub(super) file: PathBuf,
    /// Its log.
    pub(super) log: PathBuf,
    /// What to tell when the file is empty.
    pub(super) policy: TerminationMessagePolicy,
    /// It ended badly.
    pub(super) failed: bool,
}

/// The files for last words, below the pod's folder.
const FOLDER: &str = "messages";

/// The file for a run's last words, below the pod's folder.
pub(super) fn file(folder: &Path, id: &str) -> PathBuf {
    folder.join(FOLDER).join(id)
}

/// Removes the files of runs that nobody knows: a loss of power may forget a run and keep its file. Blocks.
pub(super) fn sweep(folder: &Path, known: &HashSet<String>) {
    for entry in std::fs::read_dir(folder.join(FOLDER)).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_none_or(|id| !known.contains(id)) {
            // The next agent tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Reads the message and removes the file. Blocks.
pub(super) fn take(words: &Words) -> String {
    let mut message = read(&words.file);
    // One that is not there was taken before.
    let _ = std::fs::remove_file(&words.file);
    let from_log = words.policy == TerminationMessagePolicy::FallbackToLogsOnError && words.failed;
    if message.trim().is_empty() && from_log {
        message = end_of_log(&words.log);
    }
    message
}

fn read(path: &Path) -> String {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return String::new() };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MESSAGE_MAX).unwrap_or(u64::MAX);
    // What could be read is told.
    let _ = File::from(file).take(limit).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The payloads of the last lines of a log file of the CRI's format.
fn end_of_log(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let from = length.saturating_sub(LOG_BYTES_MAX * 2);
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(from)).is_err() || file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if from > 0 && !lines.is_empty() {
        lines.remove(0);
    }
    let first = lines.len().saturating_sub(LOG_LINES_MAX);
    let payload = |line: &&str| line.splitn(4, ' ').nth(3).map(str::to_owned);
    let payloads: Vec<String> =
        lines.get(first..).unwrap_or_default().iter().filter_map(payload).collect();
    let all = payloads.join("\n");
    let excess = all.len().saturating_sub(usize::try_from(LOG_BYTES_MAX).unwrap_or(usize::MAX));
    let start = (excess..all.len()).find(|at| all.is_char_boundary(*at)).unwrap_or(0);
    all.get(start..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(folder: &Path, policy: TerminationMessagePolicy, failed: bool) -> Words {
        Words { file: folder.join("message"), log: folder.join("0.log"), policy, failed }
    }

    #[test]
    fn the_file_is_told_and_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("message"), "x".repeat(10_000)).unwrap();
        let words = words(folder.path(), TerminationMessagePolicy::File, true);
        assert_eq!(take(&words).len(), MESSAGE_MAX);
        assert_eq!(take(&words), "");
    }

    #[test]
    fn the_end_of_the_log_is_told_of_a_failure_when_the_file_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let log: String =
            (0..200).map(|n| format!("2026-01-01T00:00:00Z stderr F line {n}\n")).collect();
        std::fs::write(folder.path().join("0.log"), log).unwrap();
        std::fs::write(folder.path().join("message"), "\n").unwrap();
        let fallback = TerminationMessagePolicy::FallbackToLogsOnError;
        let told = take(&words(folder.path(), fallback, true));
        assert!(told.ends_with("line 198\nline 199") && told.lines().count() <= LOG_LINES_MAX);
        assert_eq!(take(&words(folder.path(), fallback, false)), "");
        assert_eq!(take(&words(folder.path(), TerminationMessagePolicy::File, true)), "");
    }

    #[test]
    fn the_file_of_a_run_that_nobody_knows_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        for id in ["known", "forgotten"] {
            std::fs::write(file(folder.path(), id), "words").unwrap();
        }
        sweep(folder.path(), &["known".to_owned()].into());
        assert!(
            file(folder.path(), "known").exists() && !file(folder.path(), "forgotten").exists()
        );
        sweep(&folder.path().join("has none"), &HashSet::new());
    }

    #[test]
    fn a_link_in_the_place_of_the_file_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("secret", folder.path().join("message")).unwrap();
        assert_eq!(take(&words(folder.path(), TerminationMessagePolicy::File, true)), "");
    }
}
