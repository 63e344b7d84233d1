//! Deletes logs of ended runs, so that a container that crashes for ever does not fill the disk with what it said.
//!
//! It knows file names and sizes only. It never touches the files of the run that is being written.

use std::path::Path;

use super::read::{FileName, list, path_of};
use super::writer::LogLimits;

/// Ended runs whose logs are kept at most. More than the exits the API tells of, few enough to list in no time.
const RUNS_KEPT_MAX: usize = 64;

/// Deletes the logs of the oldest runs before `attempt` until what all of them hold fits into what one run may hold.
pub(super) fn earlier(folder: &Path, attempt: u32, limits: LogLimits) {
    let bytes_max = limits.file_bytes.saturating_mul(u64::from(limits.files));
    let earlier: Vec<FileName> = list(folder).into_iter().filter(|(of, _)| *of < attempt).collect();
    let (mut bytes, mut runs, mut newest) = (0_u64, 0_usize, None);
    for &file in earlier.iter().rev() {
        if newest != Some(file.0) {
            newest = Some(file.0);
            runs += 1;
        }
        let size = std::fs::metadata(path_of(folder, file)).map_or(0, |metadata| metadata.len());
        bytes = bytes.saturating_add(size);
        if bytes > bytes_max || runs > RUNS_KEPT_MAX {
            remove(folder, file);
        }
    }
}

/// Deletes the logs of run `attempt` and of all later ones.
pub(super) fn from(folder: &Path, attempt: u32) {
    for file in list(folder).into_iter().filter(|(of, _)| *of >= attempt) {
        remove(folder, file);
    }
}

fn remove(folder: &Path, file: FileName) {
    let path = path_of(folder, file);
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(%error, path = %path.display(), "delete an old container log, ignoring");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, usize)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, size) in files {
            std::fs::write(folder.path().join(name), vec![b'x'; *size]).unwrap();
        }
        folder
    }

    const LIMITS: LogLimits = LogLimits { file_bytes: 100, files: 3 };

    #[test]
    fn logs_of_the_oldest_runs_go_when_all_hold_more_than_one_run_may() {
        let folder = written(&[
            ("0.log", 200),
            ("1.log.0", 100),
            ("1.log", 90),
            ("2.log", 100),
            ("3.log", 9),
        ]);
        earlier(folder.path(), 3, LIMITS);
        assert_eq!(list(folder.path()), [(1, Some(0)), (1, None), (2, None), (3, None)]);
    }

    #[test]
    fn a_crash_loop_with_tiny_logs_keeps_a_bounded_number_of_files() {
        let names: Vec<String> = (0..200).map(|n| format!("{n}.log")).collect();
        let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let folder = written(&files);
        earlier(folder.path(), 199, LIMITS);
        assert_eq!(list(folder.path()).len(), RUNS_KEPT_MAX + 1);
    }

    #[test]
    fn a_run_that_begins_does_not_inherit_files_with_its_number() {
        let folder = written(&[("0.log", 5), ("1.log", 5), ("1.log.0", 5), ("2.log", 5)]);
        from(folder.path(), 1);
        assert_eq!(list(folder.path()), [(0, None)]);
    }
}
