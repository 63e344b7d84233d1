//! Prints an error with all its causes, in logs, conditions and replies, in one way.

use std::error::Error;
use std::fmt::Write as _;

/// One line: the error, then each cause, separated by colons.
#[must_use]
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(line, ": {error}");
        cause = error.source();
    }
    line
}
