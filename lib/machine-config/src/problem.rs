//! A problem: where in the config something is wrong, what it is, and what to write instead.
//!
//! Problems are values to be shown, not errors to be returned: [`crate::load`] collects all of them.

use std::fmt;

/// One thing that is wrong with a config.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Index of the YAML document in the stream, from 0.
    pub document: u32,
    /// Line in the stream, from 1; 0 when not known.
    pub line: u32,
    /// Column in the line, from 1, in characters; 0 when not known.
    pub column: u32,
    /// Path in the document, like `network.links[0].addresses[1]`; empty for the document itself.
    pub path: String,
    /// What is wrong. Never holds the value of a secret.
    pub message: String,
    /// What to write instead; may be empty.
    pub hint: String,
}

impl fmt::Display for Problem {
    /// One line for people: `line 4, network.hostname: message (hint)`, without the parts that are not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.path.as_str()) {
            (0, "") => {}
            (0, path) => write!(f, "{path}: ")?,
            (line, "") => write!(f, "line {line}: ")?,
            (line, path) => write!(f, "line {line}, {path}: ")?,
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}
