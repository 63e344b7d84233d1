//! What can go wrong between an operator and a node, in words, with what to do next.

use super::Endpoint;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

/// A call that did not work. `Display` says what, `source` why, [`Error::hint`] what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is neither address nor name.
    #[error("\"{text}\" is no endpoint")]
    Endpoint {
        /// As given.
        text: String,
    },
    /// CA, certificate or key cannot be used for TLS.
    #[error("cannot use the client's certificate and key")]
    Credentials(#[source] Box<dyn StdError + Send + Sync>),
    /// No address for the name.
    #[error("cannot resolve \"{host}\"")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No TCP connection.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// The node.
        endpoint: Endpoint,
        /// Why, for the last address tried.
        #[source]
        source: io::Error,
    },
    /// What listens there does not speak the machine API.
    #[error("{endpoint} does not speak the machine API")]
    Protocol {
        /// The node.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The client does not trust the node's certificate.
    #[error("the certificate of {endpoint} is not trusted")]
    NodeUntrusted {
        /// The node.
        endpoint: Endpoint,
        /// Why.
        #[source]
        reason: Distrust,
    },
    /// The node does not accept the client's certificate.
    #[error("{endpoint} does not accept this client")]
    ClientRefused {
        /// The node.
        endpoint: Endpoint,
        /// Why.
        #[source]
        reason: Refusal,
    },
    /// The node waits for its first config.
    #[error("{endpoint} is in maintenance mode: it has no config yet")]
    Maintenance {
        /// The node.
        endpoint: Endpoint,
    },
    /// Pairing with a node that has a config.
    #[error("{endpoint} is already configured, it takes no pairing code")]
    Configured {
        /// The node.
        endpoint: Endpoint,
    },
    /// The node could not prove that it knows the code.
    #[error("{endpoint} does not know this pairing code; nothing was sent to it")]
    PairingCode {
        /// The node.
        endpoint: Endpoint,
    },
    /// No random bytes for a nonce.
    #[error("cannot start the pairing")]
    Pairing(#[source] ingot_pki::Error),
    /// Something took too long.
    #[error("{what} took longer than {}", seconds(.timeout))]
    Deadline {
        /// What was waited for.
        what: String,
        /// The time allowed.
        timeout: Duration,
    },
    /// The connection broke while a call was under way.
    #[error("the connection to {endpoint} broke during {rpc}")]
    Lost {
        /// The node.
        endpoint: Endpoint,
        /// Name of the RPC.
        rpc: &'static str,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The node answered with an error.
    #[error("{endpoint} refused {rpc}")]
    Call {
        /// The node.
        endpoint: Endpoint,
        /// Name of the RPC.
        rpc: &'static str,
        /// The node's words.
        #[source]
        reply: Reply,
    },
}

/// The error a node answered with.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", if .message.is_empty() { code_in_words(*.code) } else { .message })]
pub struct Reply {
    /// gRPC status code.
    pub code: tonic::Code,
    /// What went wrong.
    pub message: String,
    /// What to do, if the node said so.
    pub hint: Option<String>,
}

/// Why a client does not trust a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// Another authority, or an impostor.
    #[error("it was issued by another authority (\"{issuer}\", fingerprint {fingerprint})")]
    UnknownCa {
        /// Common name of the issuer, as the certificate claims.
        issuer: String,
        /// Of the node's certificate.
        fingerprint: String,
    },
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYetValid,
    /// It is no certificate of a node.
    #[error("it is not the certificate of an Ingot node")]
    NotANode,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why a node does not accept a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The client presented none.
    #[error("no client certificate was presented")]
    NoCertificate,
    /// The node trusts another authority.
    #[error("the client certificate was issued by an authority the node does not trust")]
    UnknownCa,
    /// Its time is over.
    #[error("the client certificate has expired")]
    Expired,
    /// It was taken back.
    #[error("the client certificate was revoked")]
    Revoked,
    /// It cannot be used by a client, or not yet.
    #[error(
        "the client certificate is not valid for this: not yet valid, or no certificate for clients"
    )]
    Unsuitable,
}

/// Classes of errors; the command line makes exit codes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything else.
    Failed,
    /// Wrong words on the command line or in a file of the operator.
    Usage,
    /// No connection to a node of this installation.
    Connect,
    /// Not authenticated or not permitted.
    Denied,
    /// A deadline passed.
    Deadline,
}

impl Error {
    /// The class of the error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Endpoint { .. } | Self::Credentials(_) => Kind::Usage,
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Protocol { .. }
            | Self::Lost { .. }
            | Self::Maintenance { .. }
            | Self::Configured { .. } => Kind::Connect,
            Self::NodeUntrusted { .. } | Self::ClientRefused { .. } | Self::PairingCode { .. } => {
                Kind::Denied
            }
            Self::Deadline { .. } => Kind::Deadline,
            Self::Pairing(_) => Kind::Failed,
            Self::Call { reply, .. } => match reply.code {
                tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Kind::Denied,
                tonic::Code::DeadlineExceeded => Kind::Deadline,
                tonic::Code::Unavailable => Kind::Connect,
                _ => Kind::Failed,
            },
        }
    }

    /// What to do about it, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Endpoint { .. } => "write HOST or HOST:PORT, e.g. 192.0.2.7:50000",
            Self::Credentials(_) => "make new ones with `ingotctl gen`, or fix the context",
            Self::Resolve { .. } => "check the name, or give the node's IP address",
            Self::Connect { .. } => {
                "check the address, and that the node runs; its console shows its addresses"
            }
            Self::Protocol { .. } => "check address and port; an Ingot node listens on port 50000",
            Self::NodeUntrusted { reason, .. } => reason.hint(),
            Self::ClientRefused { reason, .. } => reason.hint(),
            Self::Maintenance { .. } => {
                "give it one: ingotctl apply -f CONFIG --pairing-code CODE (the code is on its console)"
            }
            Self::Configured { .. } => "leave out --pairing-code and use the context of this node",
            Self::PairingCode { .. } => {
                "compare the code and the certificate fingerprint with the node's console; if both are right, \
                 somebody sits between you and the node"
            }
            Self::Pairing(_) => return None,
            Self::Deadline { .. } => "allow more with --timeout",
            Self::Lost { .. } => "the node may be restarting; try again",
            Self::Call { reply, .. } => return reply.hint.clone(),
        };
        Some(hint.to_owned())
    }
}

impl Distrust {
    fn hint(&self) -> &'static str {
        match self {
            Self::UnknownCa { .. } => {
                "use the context of the installation this node belongs to (ingotctl config contexts)"
            }
            Self::Expired | Self::NotYetValid => {
                "compare the clocks of this machine and of the node; then renew the node's certificate"
            }
            Self::NotANode | Self::Other(_) => "check address and port",
        }
    }
}

impl Refusal {
    fn hint(self) -> &'static str {
        match self {
            Self::NoCertificate => {
                "use a context that has a certificate (ingotctl config contexts)"
            }
            Self::UnknownCa => {
                "use the context of the installation this node belongs to (ingotctl config contexts)"
            }
            Self::Expired | Self::Revoked => {
                "issue a new client certificate with the installation's CA: ingotctl config renew"
            }
            Self::Unsuitable => {
                "compare the clocks of this machine and of the node; use a certificate made for a client"
            }
        }
    }
}

fn seconds(timeout: &Duration) -> impl fmt::Display {
    let seconds = timeout.as_secs_f64();
    format!("{seconds} s")
}

/// What a status code means when the node adds no words.
fn code_in_words(code: tonic::Code) -> &'static str {
    code.description()
}
