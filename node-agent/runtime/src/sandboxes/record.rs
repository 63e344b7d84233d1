//! The files of sandboxes: `<var>/sandboxes/<id>/sandbox.json`, and one `<container id>.json` beside it for each container.
//!
//! They live on VAR, so exits survive a reboot. Every change survives a kill of the agent at once, and a loss of power soon ([`Soon`]);
//! nobody waits for that. What is true only for one boot carries its id. That of a container is a file of
//! versions, one JSON a line: it changes a handful of times, and each time somebody waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::model::{Container, ContainerPhase, Sandbox};
use super::soon::Soon;
use crate::durable::{Survives, WriteError, add_version, last_version, replace};

/// File of the sandbox itself; no container id has this name.
const SANDBOX_FILE: &str = "sandbox.json";

/// Why records cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Read a file or folder.
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Understand a file.
    #[error("understand {path}")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// It speaks of something else than its name says.
    #[error("{path} is the record of something else")]
    Misplaced { path: PathBuf },
    /// Write a file.
    #[error("save a record")]
    Write(#[from] WriteError),
    /// Make or remove a folder or file.
    #[error("change {path}")]
    Change {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Folder with one folder for each sandbox.
pub(crate) fn top(var: &Path) -> PathBuf {
    var.join("sandboxes")
}

/// The records of one sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    folder: PathBuf,
    soon: Arc<Soon>,
}

impl Records {
    pub(crate) fn new(var: &Path, id: &str, soon: &Arc<Soon>) -> Self {
        Self { folder: top(var).join(id), soon: soon.clone() }
    }

    /// Writes down a sandbox, without its containers.
    pub(crate) fn save(&self, sandbox: &Sandbox) -> Result<(), RecordError> {
        match std::fs::create_dir(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(RecordError::Change { path: self.folder.clone(), source: e });
            }
            _ => {}
        }
        let path = self.folder.join(SANDBOX_FILE);
        replace(&path, &json(&path, sandbox)?, Survives::Kill)?;
        self.soon.sync(path);
        // The folder may be new.
        self.soon.sync(self.folder.clone());
        Ok(())
    }

    /// Writes down a container.
    pub(crate) fn save_container(&self, container: &Container) -> Result<(), RecordError> {
        let path = self.container_path(&container.id);
        add_version(&path, &json(&path, container)?)?;
        self.soon.sync(path);
        Ok(())
    }

    /// Where the record of a container is.
    pub(crate) fn container_path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Forgets a container.
    pub(crate) fn remove_container(&self, id: &str) -> Result<(), RecordError> {
        let path = self.container_path(id);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(RecordError::Change { path, source })
            }
            _ => {
                self.soon.sync(path);
                Ok(())
            }
        }
    }

    /// Forgets the sandbox.
    pub(crate) fn remove(&self) -> Result<(), RecordError> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(RecordError::Change { path: self.folder.clone(), source })
            }
            _ => {
                self.soon.sync(self.folder.clone());
                Ok(())
            }
        }
    }

    /// Reads the sandbox with its containers; `None` when nothing was written down.
    pub(crate) fn load(&self, id: &str) -> Result<Option<Sandbox>, RecordError> {
        let path = self.folder.join(SANDBOX_FILE);
        let Some(mut sandbox) = read::<Sandbox>(&path)? else { return Ok(None) };
        if sandbox.id != id {
            return Err(RecordError::Misplaced { path });
        }
        let failed = |source| RecordError::Read { path: self.folder.clone(), source };
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            if id == "sandbox" {
                continue;
            }
            let path = self.folder.join(&name);
            match read::<Container>(&path) {
                Ok(Some(container)) if container.id == id => {
                    sandbox.containers.push(Arc::new(container));
                }
                Ok(Some(_)) => return Err(RecordError::Misplaced { path }),
                Ok(None) => {}
                // One broken file only costs its container, which is then swept as unknown.
                Err(error) => {
                    tracing::error!(error = crate::report::chain(&error), "load container record");
                }
            }
        }
        sandbox.containers.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(Some(sandbox))
    }
}

fn json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(value).map_err(|source| RecordError::Parse { path: path.to_owned(), source })
}

/// What a file of them says; `None` when nothing was written down.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<Option<T>> {
    last_version(bytes, |line| serde_json::from_slice(line))
}

/// Whether a file says that a container has come as far as this.
pub(crate) fn says_phase(bytes: &[u8], phase: ContainerPhase) -> bool {
    parse::<Container>(bytes).is_ok_and(|saved| saved.is_some_and(|saved| saved.phase == phase))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Read { path: path.to_owned(), source }),
    };
    parse(&bytes).map_err(|source| RecordError::Parse { path: path.to_owned(), source })
}
