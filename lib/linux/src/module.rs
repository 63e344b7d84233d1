//! Loading kernel modules from files that are not compressed.
//!
//! It resolves no dependencies and no aliases: callers say which file, in which order.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

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
/// Checking a signature costs the kernel more than all the rest of loading. Where the module comes from a verified file
/// system it proves nothing new, so the builder may cut it off into a file beside it, with `.sig` added to the name.
/// A kernel that insists (lockdown, `module.sig_enforce`) refuses the module without, and is given both.
///
/// # Errors
/// When the file cannot be opened or the kernel refuses it.
pub fn load(path: &Path, parameters: &CStr) -> Result<(), ModuleError> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|source| ModuleError::Open { path: path.into(), source: source.into() })?;
    let mut result = rustix::system::finit_module(&file, parameters, 0);
    if let Err(Errno::KEYREJECTED | Errno::PERM) = result
        && let Some(signed) = with_signature(path)
    {
        result = rustix::system::init_module(&signed, parameters);
    }
    match result {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(source) => Err(ModuleError::Load { path: path.into(), source: source.into() }),
    }
}

/// The module as it was before its signature was cut off.
fn with_signature(path: &Path) -> Option<Vec<u8>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    let signature = std::fs::read(name).ok()?;
    let mut image = std::fs::read(path).ok()?;
    image.extend(signature);
    Some(image)
}
