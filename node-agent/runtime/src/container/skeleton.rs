//! The lowest layer of every container's root: the places on which every container has something mounted, for images that do not
//! have them. Without it they would be made in each container's own layer, on the disk, and removed again with it.
//!
//! On the file system of the images' layers, so that files of a container keep their numbers when they are written to.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::engine::Paths;

/// Folders; those above them come first.
const FOLDERS: &[&str] = &["", "dev", "etc", "proc", "sys"];

/// Empty files.
const FILES: &[&str] = &["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Where it is.
pub(crate) fn folder(paths: &Paths) -> PathBuf {
    paths.var.join("skeleton")
}

/// Makes it, or what is missing of it.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    let absent = |made: io::Result<()>| match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    for inside in FOLDERS {
        absent(std::fs::DirBuilder::new().mode(0o755).create(folder.join(inside)))?;
    }
    for inside in FILES {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o644).open(folder.join(inside));
        absent(file.map(drop))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_and_what_is_there_stays() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("skeleton");
        make(&folder).unwrap();
        std::fs::remove_file(folder.join("etc/hosts")).unwrap();
        std::fs::remove_dir(folder.join("proc")).unwrap();
        make(&folder).unwrap();
        for file in FILES {
            assert_eq!(std::fs::read(folder.join(file)).unwrap(), b"");
        }
        assert!(FOLDERS.iter().all(|inside| folder.join(inside).is_dir()));
    }
}
