//! What a URL stands for, and what is refused before there is one.

use thiserror::Error;

/// Which streams the caller wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; not with `tty`.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// Run a program in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Whose; not checked here beyond that it is there.
    pub container_id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What to connect.
    pub streams: Streams,
}

/// Connect to what a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// Whose.
    pub container_id: String,
    /// What to connect.
    pub streams: Streams,
}

/// Reach ports of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForwardRequest {
    /// Whose.
    pub sandbox_id: String,
    /// Ports the caller announced. Only old WebSocket clients depend on them; all others name a port for each connection.
    pub ports: Vec<u16>,
}

/// Why there is no URL.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// Too many URLs were asked for and not used. Try again in a minute.
    #[error("too many streaming requests are waiting for their caller")]
    Busy,
    /// The system gives no random numbers.
    #[error("make a token")]
    Random,
    /// No port of the loopback address could be opened.
    #[error("open the streaming port on the loopback address: {0}")]
    Listen(std::io::ErrorKind),
}

impl Streams {
    fn check(self) -> Result<(), RequestError> {
        if self.tty && self.stderr {
            return Err(RequestError::Invalid("tty and stderr cannot both be true"));
        }
        if !(self.stdin || self.stdout || self.stderr) {
            return Err(RequestError::Invalid("one of stdin, stdout, or stderr must be set"));
        }
        Ok(())
    }
}

/// A request of any kind, behind a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Exec(ExecRequest),
    Attach(AttachRequest),
    PortForward(PortForwardRequest),
}

impl Request {
    pub(crate) fn check(&self) -> Result<(), RequestError> {
        let container = |id: &str| match id {
            "" => Err(RequestError::Invalid("missing required container_id")),
            _ => Ok(()),
        };
        match self {
            Self::Exec(request) => {
                container(&request.container_id)?;
                request.streams.check()
            }
            Self::Attach(request) => {
                container(&request.container_id)?;
                request.streams.check()
            }
            Self::PortForward(request) if request.sandbox_id.is_empty() => {
                Err(RequestError::Invalid("missing required pod_sandbox_id"))
            }
            Self::PortForward(_) => Ok(()),
        }
    }

    /// First part of the path of its URL.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward(_) => "portforward",
        }
    }
}
