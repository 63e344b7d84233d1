//! The mount namespace with nothing in it, a copy of which each container gets: made when the first container is, kept open, and
//! gone with this process.
//!
//! Blocks.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ingot_runc_api::{Reply, Request};

use crate::runc::{self, RuncError};

/// The one of this agent.
#[derive(Default)]
pub(crate) struct EmptyNamespace(Mutex<Option<OwnedFd>>);

impl EmptyNamespace {
    /// A descriptor of it. `program` makes it, if it is not there; whoever else asks waits for that as long as the helper may take.
    pub(crate) fn get(&self, program: &Path) -> Result<OwnedFd, RuncError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match known.take() {
            Some(made) => made,
            None => make(program)?,
        };
        known.insert(made).try_clone().map_err(RuncError::Send)
    }
}

fn make(program: &Path) -> Result<OwnedFd, RuncError> {
    match runc::run(program, &Request::Empty, &[])? {
        (Reply::Empty, descriptors) => descriptors.into_iter().next(),
        _ => None,
    }
    .ok_or_else(|| RuncError::Failed("a wrong answer".to_owned()))
}
