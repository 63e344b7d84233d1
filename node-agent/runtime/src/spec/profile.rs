//! Profiles of system calls as the helper gets them: text and digest. The default ones are kept ready. No I/O.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::seccomp;

/// A profile as the helper gets it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    /// JSON of the OCI form.
    pub(crate) text: String,
    /// SHA-256 of the text in lower-case hex.
    pub(crate) digest: String,
}

impl Profile {
    pub(super) fn new(value: &Value) -> Self {
        let text = value.to_string();
        let digest = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, digest }
    }
}

/// Lists of capabilities whose profile is kept ready: nearly all containers have the same.
const KNOWN_MAX: usize = 8;

/// The profiles made last, newest last. To make and write one takes longer than all the rest of a spec.
static KNOWN: Mutex<Vec<(Vec<String>, Arc<Profile>)>> = Mutex::new(Vec::new());

/// The profile for a container with these capabilities, ready to be used.
pub(super) fn known(capabilities: &[String]) -> Arc<Profile> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, made)) = known.iter().find(|(of, _)| of == capabilities) {
        return made.clone();
    }
    let made = Arc::new(Profile::new(&seccomp::profile(capabilities)));
    if known.len() >= KNOWN_MAX {
        known.remove(0);
    }
    known.push((capabilities.to_owned(), made.clone()));
    made
}
