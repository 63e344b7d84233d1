//! Writes whole files so that a power cut leaves the old one or the new one. What is in them is not said here.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces a file in one step, so that it is old or new after a power cut.
pub(crate) fn replace(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<u32>,
) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // One that a killed agent left may have other rights.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    if let Some(owner) = owner {
        std::os::unix::fs::fchown(&file, Some(owner), Some(owner))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_whole_with_its_own_rights_though_a_killed_agent_left_half_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        fs::write(folder.path().join("a.new"), "half of a longer one").unwrap();
        fs::set_permissions(folder.path().join("a.new"), fs::Permissions::from_mode(0o644))
            .unwrap();
        replace(&path, b"new", 0o600, None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(replace(&folder.path().join("not/there"), b"x", 0o600, None).is_err());
    }
}
