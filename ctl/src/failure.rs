//! How a command fails: message, causes, what to do, and the exit code. One printer for all of them.

use crate::client::{self, Kind};
use crate::text;
use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// Exit codes of the program. They are documented in its help; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Nobody reads our output any more: the reader has what it wanted.
    Quiet = 0,
    /// Anything that has no code of its own.
    Failed = 1,
    /// Wrong words on the command line, or a file of the operator that cannot be used.
    Usage = 2,
    /// The config has problems; nothing was changed.
    Refused = 3,
    /// No connection to a node.
    Connect = 4,
    /// Not authenticated, or not permitted.
    Denied = 5,
    /// A deadline passed.
    Deadline = 6,
}

/// A command that did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// Exit code of a program elsewhere that ended with it; nothing is printed then.
    program: Option<u8>,
    message: String,
    causes: Vec<String>,
    details: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure with its message.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        let (causes, details) = (Vec::new(), String::new());
        Self { exit, program: None, message, causes, details, hint: None }
    }

    /// A program elsewhere ended with this code. What it has to say it has said.
    #[must_use]
    pub fn program(code: u8) -> Self {
        Self { program: Some(code), ..Self::new(Exit::Quiet, "") }
    }

    /// Whether there is nothing to say about it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.exit == Exit::Quiet
    }

    /// Something about a file or a word of the operator.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds an error and all that caused it.
    #[must_use]
    pub fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds lines that stand below the message, e.g. the problems of a config.
    #[must_use]
    pub fn details(mut self, details: String) -> Self {
        self.details = details;
        self
    }

    /// The code of the process.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.program.unwrap_or(self.exit as u8))
    }

    /// Writing our output failed. A closed pipe is the reader's choice, not an error.
    #[must_use]
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Quiet, "");
        }
        Self::new(Exit::Failed, "cannot write the output").because(error)
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let exit = match error.kind() {
            Kind::Usage => Exit::Usage,
            Kind::Connect => Exit::Connect,
            Kind::Denied => Exit::Denied,
            Kind::Deadline => Exit::Deadline,
            Kind::Failed => Exit::Failed,
        };
        let mut failure = Self::new(exit, error.to_string());
        if let Some(source) = error.source() {
            failure = failure.because(source);
        }
        failure.hint = error.hint();
        failure
    }
}

impl fmt::Display for Failure {
    /// Lines for stderr, each ended. Words of a node are made harmless for terminals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.exit == Exit::Quiet {
            return Ok(());
        }
        writeln!(f, "error: {}", text::printable(&self.message))?;
        for cause in &self.causes {
            writeln!(f, "cause: {}", text::printable(cause))?;
        }
        f.write_str(&self.details)?;
        match &self.hint {
            Some(hint) => writeln!(f, "hint:  {}", text::printable(hint)),
            None => Ok(()),
        }
    }
}
