//! The operator's contexts: which installations there are, which of their nodes to ask, and as whom. One file, readable by
//! its owner only, replaced as a whole: a crash leaves the old one or the new one.

use crate::client::Credentials;
use crate::failure::{Exit, Failure};
use ingot_pki::{Certificate, Identity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Everything in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// Name of the context used when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One installation, as one person.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `HOST` or `HOST:PORT` of the node asked when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The installation's authority, PEM; several may follow each other while one replaces another.
    pub ca: String,
    /// The client's certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The client's private key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Zeroizing<String>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Context {
    /// A context of an authority and a client's identity.
    #[must_use]
    pub fn new(endpoint: Option<String>, ca: &Certificate, identity: &Identity) -> Self {
        Self {
            endpoint,
            ca: ca.to_pem(),
            certificate: Some(identity.certificate.to_pem()),
            key: Some(identity.key.to_pem()),
        }
    }

    /// The context in the form the client takes.
    ///
    /// # Errors
    /// When a part of it is no certificate or key, or certificate and key do not belong together.
    pub fn credentials(&self, name: &str) -> Result<Credentials, Failure> {
        let wrong = |error: ingot_pki::Error| {
            Failure::usage(format!("context \"{name}\" cannot be used")).because(&error)
        };
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Some(Identity::from_pem(certificate, key).map_err(wrong)?)
            }
            _ => None,
        };
        let authorities = Certificate::many_from_pem(&self.ca).map_err(wrong)?;
        Ok(Credentials { authorities, identity })
    }
}

impl Contexts {
    /// Reads the file; one that is not there holds no contexts.
    ///
    /// # Errors
    /// When it cannot be read or is no contexts file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::error::Error| {
            Failure::usage("cannot read the contexts").because(error)
        };
        let text = match fs_err::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(&error)),
        };
        let mode = fs_err::metadata(path).map_err(|error| failed(&error))?.permissions().mode();
        if mode & 0o077 != 0 {
            eprintln!(
                "warning: {} holds private keys and can be read by others; chmod 600 it, ignoring",
                path.display()
            );
        }
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| {
            // The parser's own words may quote the text, which holds keys: only the place is shown.
            let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column()));
            Failure::usage(format!(
                "{}{} is not a contexts file",
                path.display(),
                place.unwrap_or_default()
            ))
            .hint("compare it with the contexts file in the manual, or move it away")
        })
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When the directory or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_saphyr::to_string(self).map(Zeroizing::new).map_err(|error| {
            Failure::new(Exit::Failed, "cannot write the contexts").because(&error)
        })?;
        write_private(path, text.as_bytes(), true).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot write {}", path.display())).because(&error)
        })
    }

    /// The context of this name, or the current one, or the only one.
    ///
    /// # Errors
    /// When there is none, or the choice is not clear.
    pub fn choose(&self, name: Option<&str>) -> Result<(String, Context), Failure> {
        let wanted = name.or(self.current.as_deref());
        if let Some(name) = wanted {
            return self
                .contexts
                .get(name)
                .map(|context| (name.to_owned(), context.clone()))
                .ok_or_else(|| {
                    Failure::usage(format!("there is no context \"{name}\""))
                        .hint("list them with `ingotctl config contexts`")
                });
        }
        match self.contexts.iter().next() {
            Some((name, context)) if self.contexts.len() == 1 => {
                Ok((name.clone(), context.clone()))
            }
            Some(_) => Err(Failure::usage("there are several contexts and none is current")
                .hint("choose one: `ingotctl config use NAME`, or --context NAME")),
            None => Err(Failure::usage("there is no context")
                .hint("make one with `ingotctl gen`, or name a contexts file with --config")),
        }
    }
}

/// Writes a file that only its owner can read: complete under its name, or not at all. Makes the directory if needed.
/// Without `replace` an existing file is an error.
pub(crate) fn write_private(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let temporary = directory.join(name);
    let write = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if replace {
            fs_err::rename(&temporary, path)?;
        } else {
            // A link, unlike a rename, refuses to take a name that is in use.
            fs_err::hard_link(&temporary, path)?;
            fs_err::remove_file(&temporary)?;
        }
        fs_err::File::open(directory)?.sync_all()
    };
    let result = write();
    if result.is_err() {
        // The error that matters is the one at hand; a left-over is harmless and says what it is by its name.
        let _ = std::fs::remove_file(&temporary);
    }
    result
}
