//! Who may speak with a node: the certificate authority of an installation, the certificates it issues, the roles they
//! carry, and the pairing code that stands in for all of them before the first config.
//!
//! Pure: no clock (`now` is always an argument), no files, no network. Private keys are wiped when dropped and never
//! appear in `Debug` or in an error.
#![forbid(unsafe_code)]

mod authority;
mod certificate;
mod error;
mod key;
pub mod kubernetes;
pub mod pairing;
mod request;
mod role;
mod validity;

pub use authority::{Ca, Identity, SubjectName, self_signed};
pub use certificate::{Certificate, CertificateInfo, Fingerprint};
pub use error::Error;
pub use key::PrivateKey;
pub use request::CertificateRequest;
pub use role::Role;
pub use validity::{CLOCK_SKEW, Validity};

/// The DNS name that every node certificate carries and that every client verifies, whatever address it dialled. A node
/// behind a forwarded port, a NAT or a new address is still that node: what proves it is the CA, not the address.
pub const NODE_SERVER_NAME: &str = "ingot-node";

/// Organization of the self-signed certificate of a node that waits for its first config. It proves nothing (anyone can
/// write it); clients use it only to choose the words of an error.
pub const MAINTENANCE_ORGANIZATION: &str = "ingot:maintenance";

#[cfg(test)]
mod tests;
