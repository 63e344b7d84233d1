//! Loading kernel modules from files that are not compressed.
//!
//! It resolves no dependencies and no aliases: callers say which file, in which order.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The file cannot be opened.
    #[error("open module {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused it.
    #[error("finit_module({path})")]
    Load {
        /// The file.
        path: PathBuf,
        /// Why; `ENODEV` when its hardware is absent.
        #[source]
        source: io::Error,
    },
}

impl ModuleError {
    /// Whether the kernel refused because there is nothing for the module to drive.
    #[must_use]
    pub fn is_no_hardware(&self) -> bool {
        matches!(self, Self::Load { source, .. } if source.raw_os_error() == Some(libc::ENODEV))
    }
}

/// Loads the module in `path` with these parameters (`name=value ...`). One that is loaded already is no error.
///
/// # Errors
/// When the file cannot be opened or the kernel refuses it.
pub fn load(path: &Path, parameters: &CStr) -> Result<(), ModuleError> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|source| ModuleError::Open { path: path.into(), source: source.into() })?;
    match rustix::system::finit_module(&file, parameters, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(source) => Err(ModuleError::Load { path: path.into(), source: source.into() }),
    }
}
