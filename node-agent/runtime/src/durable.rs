//! Small files that are either the old or the new version, never a mixture: replaced as a whole, or with a line added for each
//! version, of which the last whole one counts.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Open, write or synchronise the new version.
    #[error("write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Put the new version in place of the old one.
    #[error("replace {path}")]
    Replace {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// How long a write has to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    /// A kill of this process: the page cache is enough.
    Kill,
    /// A loss of power: the bytes are on the disk when this returns.
    PowerLoss,
}

/// Replaces `path` by `bytes` in one step. One writer per path at a time.
pub(crate) fn replace(path: &Path, bytes: &[u8], survives: Survives) -> Result<(), WriteError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let failed = |source| WriteError::Write { path: new.clone(), source };
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    if survives == Survives::PowerLoss {
        file.sync_all().map_err(failed)?;
    }
    let failed = |source| WriteError::Replace { path: path.to_owned(), source };
    std::fs::rename(&new, path).map_err(failed)?;
    if survives == Survives::PowerLoss
        && let Some(folder) = path.parent()
    {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// Length at which a file of versions is begun anew.
const VERSIONS_LENGTH_MAX: u64 = 64 * 1024;

/// Adds a version to a file, which is made when it is not there. `line` is one line without its end. Many times cheaper than
/// [`replace`], which makes a file, gives it a place on the disk and removes another. It survives a kill of this process; a loss of
/// power may take back as many of the last versions as were not synchronised. One writer per path at a time.
pub(crate) fn add_version(path: &Path, line: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError::Write { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    // What a kill has cut off is ended by the first byte.
    file.write_all(&[b"\n", line, b"\n"].concat()).map_err(failed)?;
    if file.stream_position().map_err(failed)? > VERSIONS_LENGTH_MAX {
        drop(file);
        return replace(path, &[line, b"\n"].concat(), Survives::Kill);
    }
    Ok(())
}

/// The last whole version in a file: the last line that `parse` takes. `None` in a file without a byte of one; else the error of
/// the last line, when there is none.
pub(crate) fn last_version<T, E>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Option<T>, E> {
    let mut first_error = None;
    for line in bytes.rsplit(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match parse(line) {
            Ok(version) => return Ok(Some(version)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// Has what is at `path` survive a loss of power. True when it is what the caller means, or when there is nothing any more;
/// false when something older is there.
pub(crate) fn sync_if(path: &Path, meant: impl FnOnce(&[u8]) -> bool) -> Result<bool, WriteError> {
    let failed = |source| WriteError::Write { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(source) => return Err(failed(source)),
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &file, &mut bytes).map_err(failed)?;
    if !meant(&bytes) {
        return Ok(false);
    }
    file.sync_all().map_err(failed)?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(true)
}

/// Has what is at these paths survive a loss of power, and that nothing is any more where there is nothing. One that fails keeps no
/// other from it; the first error is told.
pub(crate) fn sync(paths: &BTreeSet<PathBuf>) -> Result<(), WriteError> {
    let open = |path: &Path| match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| WriteError::Write { path, source }
    };
    // All begin before one is waited for: the journal is then written once and not for each of them.
    for path in paths {
        if let Ok(Some(file)) = open(path) {
            // What cannot be begun is told by what waits for it.
            let _ = ingot_linux::writeback::begin(&file, 0..0);
        }
    }
    let folders: BTreeSet<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
    let mut result = Ok(());
    for path in paths.iter().map(PathBuf::as_path).chain(folders) {
        let synced = open(path).and_then(|file| file.map_or(Ok(()), |file| file.sync_all()));
        result = result.and(synced.map_err(failed(path)));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[u8]) -> Result<String, String> {
        let text = String::from_utf8_lossy(line).into_owned();
        let whole = text.starts_with('{') && text.ends_with('}');
        if whole { Ok(text) } else { Err(text) }
    }

    fn last(path: &Path) -> Result<Option<String>, String> {
        last_version(&std::fs::read(path).unwrap(), parse)
    }

    #[test]
    fn the_last_whole_version_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("versions");
        for version in ["{1}", "{2}"] {
            add_version(&path, version.as_bytes()).unwrap();
            assert_eq!(last(&path), Ok(Some(version.to_owned())));
        }
        let whole = std::fs::read(&path).unwrap();
        // Killed, or without power, in the middle of the next: any part of it, or zeros in its place.
        for tail in ["\n", "\n{", "\n{3", "\n\0\0\0\0"] {
            std::fs::write(&path, [&whole[..], tail.as_bytes()].concat()).unwrap();
            assert_eq!(last(&path), Ok(Some("{2}".to_owned())), "{tail:?}");
            add_version(&path, b"{4}").unwrap();
            assert_eq!(last(&path), Ok(Some("{4}".to_owned())), "{tail:?}");
        }
    }

    #[test]
    fn a_file_without_a_whole_version_is_empty_or_broken() {
        assert_eq!(last_version(b"", parse), Ok(None));
        assert_eq!(last_version(b"\n", parse), Ok(None));
        assert_eq!(last_version(b"\n{1", parse), Err("{1".to_owned()));
    }

    #[test]
    fn what_is_there_and_what_is_gone_is_synchronised_and_a_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("here"), "1").unwrap();
        assert!(
            sync(&BTreeSet::from([at("here"), at("gone"), at("gone/with/its/folder")])).is_ok()
        );
        let error = sync(&BTreeSet::from([at("here/is/no/folder"), at("here")])).unwrap_err();
        assert!(error.to_string().contains("here/is/no/folder"), "{error}");
    }

    #[test]
    fn a_file_of_versions_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("versions");
        let version = format!("{{{}}}", "x".repeat(1000));
        for _ in 0..200 {
            add_version(&path, version.as_bytes()).unwrap();
            assert!(std::fs::metadata(&path).unwrap().len() <= VERSIONS_LENGTH_MAX);
        }
        assert_eq!(last(&path), Ok(Some(version)));
    }
}
