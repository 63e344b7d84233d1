//! Errors of this crate. They name the operation and never contain key material.

/// What could not be done with a key or a certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The random source or the curve refused.
    #[error("cannot generate a private key")]
    GenerateKey(#[source] rcgen::Error),
    /// A certificate could not be built or signed.
    #[error("cannot sign the certificate of \"{subject}\"")]
    Sign {
        /// Common name of the subject.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A DNS name that cannot stand in a certificate.
    #[error("\"{name}\" cannot be a DNS name in a certificate")]
    Name {
        /// The name as given.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// Text that is not PEM.
    #[error("the {what} is not PEM")]
    Pem {
        /// "certificate" or "private key".
        what: &'static str,
        /// Why.
        #[source]
        source: pem::PemError,
    },
    /// PEM with another label than wanted.
    #[error("the {what} is a PEM block \"{found}\", not \"{wanted}\"")]
    PemLabel {
        /// "certificate" or "private key".
        what: &'static str,
        /// The label that is there.
        found: String,
        /// The label that should be there.
        wanted: &'static str,
    },
    /// A private key that is not PKCS#8 ECDSA P-256. The cause is left out: parsers quote their input.
    #[error("the private key is not an ECDSA P-256 key in PKCS#8 form")]
    Key,
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// Bytes that are not an X.509 certificate.
    #[error("the bytes are not an X.509 certificate")]
    Certificate(#[source] x509_parser::error::X509Error),
    /// Bytes that are no request for a certificate, or whose signature is wrong.
    #[error("this is no request for a certificate, or it was changed")]
    Request,
    /// A certificate that may not sign others was given as CA.
    #[error("the certificate of \"{subject}\" is not a certificate authority")]
    NotCa {
        /// Common name of the subject.
        subject: String,
    },
    /// A date outside of what a certificate can say.
    #[error(
        "the validity of the certificate ends before it begins, or outside the years 1970 to 9999"
    )]
    Validity,
    /// No random bytes.
    #[error("the random source of the machine failed")]
    Random,
}
