//! Container logs: pipes to spool to files without losing or doubling a byte, and reading them back.

pub(crate) mod budget;
mod format;
mod place;
mod prune;
pub(crate) mod read;
pub(crate) mod writer;

pub(crate) use place::{LogPaths, LogTarget};
pub use writer::LogLimits;

use jiff::Timestamp;

/// Which log lines to read.
#[derive(Clone, Debug, Default)]
pub struct LogRequest {
    /// Namespace; "default" when empty.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container; may be empty when the pod has one.
    pub container: String,
    /// Go on with new lines as they come, across restarts of the container.
    pub follow: bool,
    /// Newest lines only; 0 for all that are kept.
    pub tail_lines: u32,
    /// All runs that are kept, not only the newest.
    pub all_attempts: bool,
}

/// One log line, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the agent wrote it down.
    pub time: Timestamp,
    /// Where the container wrote it.
    pub stream: LogStream,
    /// Without the line feed.
    pub line: Vec<u8>,
    /// The line goes on in the next piece of the same stream.
    pub partial: bool,
    /// Run of the container, 0 for the first.
    pub attempt: u32,
}

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl LogStream {
    /// As in the file format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Why logs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No such pod is known.
    #[error("no pod {namespace}/{pod}")]
    NoPod {
        /// Namespace asked for.
        namespace: String,
        /// Pod asked for.
        pod: String,
    },
    /// The pod has no such container.
    #[error("pod has no container {container:?}; it has: {known}")]
    NoContainer {
        /// Container asked for.
        container: String,
        /// Names it has, with commas.
        known: String,
    },
    /// The pod has several and none was named.
    #[error("pod has more than one container, name one of: {known}")]
    Ambiguous {
        /// Names it has, with commas.
        known: String,
    },
    /// A log file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
