//! Images from an archive into the store, by the same way and with the same checks as from a registry.

use std::io::{self, Read, Seek as _, Write as _};
use std::sync::Arc;

use tokio::sync::watch;

use super::blocking;
use super::fetch::{Fetch, Names};
use super::pull;
use super::state::Inner;
use super::{Image, Progress};
use crate::error::Error;
use crate::layout::Layout;
use crate::reference::Reference;
use crate::source::Source;

/// Bytes copied at once.
const CHUNK: usize = 256 << 10;

pub(super) async fn import(
    inner: &Arc<Inner>,
    archive: impl Read + Send + 'static,
) -> Result<Vec<Arc<Image>>, Error> {
    let owner = inner.clone();
    let layout = Arc::new(blocking(move || spool(&owner, archive)).await?);
    let mut images = Vec::new();
    for (digest, written) in layout.images.clone() {
        let mut names = Names { shown: digest.to_string(), ..Names::default() };
        for name in written {
            let name = Names::of(&Reference::parse(&name)?);
            names.repo_tags.extend(name.repo_tags);
            names.repositories.extend(name.repositories);
        }
        let fetch = Fetch {
            inner: inner.clone(),
            source: Source::Archive(layout.clone()),
            names,
            progress: watch::Sender::new(Progress::default()),
        };
        images.push(pull::run(fetch, digest.to_string(), Some(digest)).await?);
    }
    Ok(images)
}

/// Copies the archive to the disk: what describes it may come after what it describes.
fn spool(inner: &Inner, mut archive: impl Read) -> Result<Layout, Error> {
    let limits = &inner.config.limits;
    let mut file = inner.disk.scratch()?;
    let full = || Error::Archive { problem: "does not fit on the disk".into() };
    let failed = |source| Error::Write { path: inner.config.root.clone(), source };
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let length = match archive.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Error::Archive { problem: format!("did not arrive: {error}") });
            }
        };
        total += length as u64;
        let free = rustix::fs::fstatvfs(&file).map_err(|e| failed(e.into()))?;
        let free = free.f_bavail.saturating_mul(free.f_frsize);
        if total > limits.unpacked_bytes || free < limits.reserve_bytes {
            return Err(full());
        }
        file.write_all(&buffer[..length]).map_err(failed)?;
    }
    file.rewind().map_err(failed)?;
    Layout::open(file, limits.document_bytes)
}
