//! What cannot be trusted any more is set aside below `damaged/`, never deleted: containers may run from those layers, and
//! somebody may want to know what was there. It goes when the operator asks for it, after the next start of the machine.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, LAYER, digest_of, list, remove, write_error};
use crate::digest::Digest;
use crate::error::Error;
use crate::unpack::Stats;

/// Changes with each start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Disk {
    fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    /// Moves an index that cannot be used out of the way.
    pub(super) fn set_index_aside(&self, path: &Path) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default();
        self.set_aside(path, &self.damaged().join(name))
    }

    /// Moves layers and documents out of the way that a list, of which something may be missing, does not name. Returns
    /// how many layers.
    pub(super) fn set_unknown_aside(
        &self,
        layers: &BTreeSet<Digest>,
        documents: &BTreeSet<Digest>,
    ) -> Result<usize, Error> {
        let mut moved = 0;
        for (folder, name, known) in
            [(self.layers(), "layers", layers), (self.documents(), "documents", documents)]
        {
            for path in list(&folder)? {
                if digest_of(&path).is_some_and(|digest| !known.contains(&digest)) {
                    let file = path.file_name().unwrap_or_default();
                    self.set_aside(&path, &self.damaged().join(name).join(file))?;
                    moved += usize::from(name == "layers");
                }
            }
        }
        Ok(moved)
    }

    /// What was set aside earlier under the same name goes.
    fn set_aside(&self, path: &Path, to: &Path) -> Result<(), Error> {
        let folder = to.parent().unwrap_or(to);
        let moved = fs::create_dir_all(folder)
            .and_then(|()| fs::write(self.damaged().join("boot_id"), boot_id()?))
            .and_then(|()| match remove(to) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => fs::rename(path, to),
            });
        match moved {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved.map_err(write_error(to)),
        }
    }

    /// What lies aside takes this.
    pub(super) fn aside(&self) -> Stats {
        let mut sum = Stats::default();
        for path in list(&self.damaged().join("layers")).unwrap_or_default() {
            let bytes = fs::read(path.join(LAYER)).unwrap_or_default();
            if let Ok(stats) = serde_json::from_slice::<Stats>(&bytes) {
                sum.bytes += stats.bytes;
                sum.inodes += stats.inodes;
            }
        }
        sum
    }

    /// Removes what lies aside since before this start of the machine: no container runs from it. Returns whether there
    /// was any.
    pub(super) fn remove_aside(&self) -> Result<bool, Error> {
        let path = self.damaged();
        let Ok(since) = fs::read_to_string(path.join("boot_id")) else { return Ok(false) };
        if since == boot_id().map_err(write_error(&path))? {
            return Ok(false);
        }
        self.discard(&path).map(|()| true)
    }
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string(BOOT_ID)
}
