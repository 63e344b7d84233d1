//! Private keys: ECDSA P-256 in PKCS#8, wiped when dropped, never printed.

use crate::Error;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

const LABEL: &str = "PRIVATE KEY";

/// An ECDSA P-256 private key.
#[derive(Clone)]
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl PrivateKey {
    /// A new key from the machine's random source.
    ///
    /// # Errors
    /// [`Error::GenerateKey`] when there are no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::GenerateKey)?;
        Ok(Self::from_pair(pair))
    }

    /// Reads a `PRIVATE KEY` (PKCS#8) PEM block.
    ///
    /// # Errors
    /// When the text is no such block or the key is of another kind.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let block =
            pem::parse(text).map_err(|source| Error::Pem { what: "private key", source })?;
        if block.tag() != LABEL {
            return Err(Error::PemLabel {
                what: "private key",
                found: block.tag().to_owned(),
                wanted: LABEL,
            });
        }
        Self::from_pkcs8_der(Zeroizing::new(block.into_contents()))
    }

    /// Takes PKCS#8 DER.
    ///
    /// # Errors
    /// [`Error::Key`] when it is no ECDSA P-256 key.
    pub fn from_pkcs8_der(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        let key = Self { pkcs8 };
        key.with_pair(|_| Ok(()))?;
        Ok(key)
    }

    /// PKCS#8 DER, for TLS libraries.
    #[must_use]
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key as a PEM block; the text wipes itself when dropped.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let block = pem::Pem::new(LABEL, self.pkcs8.to_vec());
        let text = Zeroizing::new(encode(&block));
        let mut contents = block.into_contents();
        contents.zeroize();
        text
    }

    /// Uncompressed public point, as it stands in a certificate.
    ///
    /// # Errors
    /// Never for a key made by this type.
    pub fn public_key(&self) -> Result<Vec<u8>, Error> {
        self.with_pair(|pair| Ok(pair.public_key_raw().to_vec()))
    }

    pub(crate) fn from_pair(mut pair: KeyPair) -> Self {
        let key = Self { pkcs8: Zeroizing::new(pair.serialize_der()) };
        pair.zeroize();
        key
    }

    /// Lends the key in the form the certificate builder wants, and wipes that copy afterwards.
    pub(crate) fn with_pair<T>(
        &self,
        use_pair: impl FnOnce(&KeyPair) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut pair = KeyPair::try_from(self.pkcs8.as_slice()).map_err(|_| Error::Key)?;
        let result = if pair.algorithm() == &PKCS_ECDSA_P256_SHA256 {
            use_pair(&pair)
        } else {
            Err(Error::Key)
        };
        pair.zeroize();
        result
    }
}

/// PEM with the line ends of this world.
pub(crate) fn encode(block: &pem::Pem) -> String {
    pem::encode_config(block, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}
