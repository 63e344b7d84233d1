//! `configs/images/packages.lock`: which version of which Debian package an image is made of.
//!
//! Only packages whose files end up in an image are locked; tools that merely run here are not. Reading and writing is
//! all this file does; [`super::packages`] decides what to do about a difference.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One locked package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Debian package name.
    pub name: String,
    /// Debian version, with epoch and revision.
    pub version: String,
    /// SHA-256 of the `.deb` file, in hex.
    pub sha256: String,
    /// The metapackage this one was chosen for (kernels only), so that the name of a kernel needs no index.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<String>,
}

/// The whole lock file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Every locked package, sorted by name.
    #[serde(default, rename = "package")]
    pub packages: Vec<Locked>,
}

/// What can go wrong with the lock file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// It could not be read or written.
    #[error("cannot access the package lock file {path}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what this program writes.
    #[error("the package lock file {path} is damaged; write it again with `ingot-image lock`")]
    Parse {
        /// The lock file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
}

impl Lock {
    /// Reads a lock file; a missing one is an empty lock.
    ///
    /// # Errors
    /// [`LockError`] when the file exists and cannot be read or understood.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(LockError::Io { path: path.to_owned(), source }),
        };
        toml::from_str(&text).map_err(|source| LockError::Parse { path: path.to_owned(), source })
    }

    /// The file's text: sorted, one table for each package, so that a change reads well in a review.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from(
            "# Debian packages whose files are part of an image. Written by `ingot-image lock`; do not edit by hand.\n",
        );
        let mut packages = self.packages.clone();
        packages.sort();
        packages.dedup();
        for one in &packages {
            text.push_str(&format!(
                "\n[[package]]\nname = \"{}\"\nversion = \"{}\"\nsha256 = \"{}\"\n",
                one.name, one.version, one.sha256
            ));
            if let Some(meta) = &one.stands_for {
                text.push_str(&format!("for = \"{meta}\"\n"));
            }
        }
        text
    }

    /// Writes the lock file.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        std::fs::write(path, self.text())
            .map_err(|source| LockError::Io { path: path.to_owned(), source })
    }

    /// The entry of a package, by its own name or by the metapackage it stands for.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Locked> {
        let by_meta = self.packages.iter().find(|one| one.stands_for.as_deref() == Some(name));
        by_meta.or_else(|| self.packages.iter().find(|one| one.name == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_reads_back_as_it_was_written() {
        let one = |name: &str, meta: Option<&str>| Locked {
            name: name.to_owned(),
            version: "1:2-3".to_owned(),
            sha256: "ab".to_owned(),
            stands_for: meta.map(str::to_owned),
        };
        let lock = Lock { packages: vec![one("b", None), one("a-1", Some("a"))] };
        let back: Lock = toml::from_str(&lock.text()).expect("its own text");
        assert_eq!(back.find("a").map(|one| one.name.as_str()), Some("a-1"));
        assert_eq!(back.find("b"), lock.find("b"));
        assert_eq!(back.packages.len(), 2);
    }
}
