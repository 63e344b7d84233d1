//! The kernel's own word that a cgroup has become empty, instead of looking again and again.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::readiness;

/// An open `cgroup.events`: the kernel marks it when something in it is another than what was read last.
pub(crate) struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// `None` when there is no such cgroup.
    pub(super) fn open(path: &Path) -> std::io::Result<Option<Self>> {
        match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => readiness::register_priority(file).map(Self).map(Some),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until no process is in it or below.
    pub(crate) async fn until_empty(&self) -> std::io::Result<()> {
        loop {
            let mut text = [0; 128];
            let length = match rustix::io::pread(self.0.get_ref(), &mut text, 0) {
                Ok(length) => length,
                // The cgroup is gone.
                Err(rustix::io::Errno::NODEV) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
            if super::number_after(&text, "populated") != Some(1) {
                return Ok(());
            }
            self.0.ready(Interest::PRIORITY).await?.clear_ready();
        }
    }
}
