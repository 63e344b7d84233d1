//! Steps on the way to a program, each with a name, so that who reads a failure knows which one it was.

use std::io;

/// The step that failed, and why.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) &'static str, pub(crate) io::Error);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.1)
    }
}

/// Names a step.
pub(crate) trait Step<T> {
    /// The step that this is the outcome of.
    fn step(self, name: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, name: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure(name, error.into()))
    }
}
