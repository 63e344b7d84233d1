//! The pairing code: how an operator and a node that share no certificate yet prove to each other that both know the code
//! on the node's console, without sending it, and that nobody sits between them (the proofs are bound to the certificate
//! of the TLS connection). 80 bits, so a recorded proof is no use to someone who tries codes.
//!
//! One use of nonces, limits on tries and their expiry are the node's duty, not this module's.

use crate::{Error, Fingerprint};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;
/// Symbols of a code, without the dashes: 5 bits each.
const SYMBOLS: usize = 16;
/// Crockford's base32: no I, L, O, U, so nobody has to ask whether that is a zero.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Label of the node's proof.
const SERVER_LABEL: &[u8] = b"ingot-pair-server";
/// Label of the client's proof.
const CLIENT_LABEL: &[u8] = b"ingot-pair-client";

/// The code, in its one written form: 16 upper-case symbols without dashes. These ASCII bytes are the key of the proofs.
#[derive(Clone)]
pub struct PairingCode(Zeroizing<String>);

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairingCode(..)")
    }
}

/// Text that is no pairing code. The text is not repeated: it may be nearly right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Not 16 symbols.
    #[error("a pairing code has 16 symbols, as in XXXX-XXXX-XXXX-XXXX; this has {0}")]
    Length(usize),
    /// A symbol that is not in the alphabet.
    #[error("'{0}' does not occur in pairing codes")]
    Symbol(char),
}

impl PairingCode {
    /// A new code.
    ///
    /// # Errors
    /// [`Error::Random`] when there are no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let mut random = Zeroizing::new([0_u8; SYMBOLS]);
        SystemRandom::new().fill(random.as_mut()).map_err(|_| Error::Random)?;
        // 32 symbols divide 256 evenly, so the low five bits are as random as the byte.
        let code = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
        Ok(Self(Zeroizing::new(code)))
    }

    /// Reads a code as people type it: any case, dashes and spaces anywhere, `O` for `0`, `I` and `L` for `1`.
    ///
    /// # Errors
    /// When it has another length or a symbol that cannot occur.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let mut code = Zeroizing::new(String::with_capacity(SYMBOLS));
        let mut count = 0;
        for typed in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let symbol = match typed.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            if !u8::try_from(symbol).is_ok_and(|byte| ALPHABET.contains(&byte)) {
                return Err(CodeError::Symbol(typed));
            }
            count += 1;
            // Never longer than it was allocated, so no copy of it is left behind by growing.
            if count <= SYMBOLS {
                code.push(symbol);
            }
        }
        if count == SYMBOLS { Ok(Self(code)) } else { Err(CodeError::Length(count)) }
    }

    /// The code as the console shows it: `XXXX-XXXX-XXXX-XXXX`. The text wipes itself when dropped.
    #[must_use]
    pub fn shown(&self) -> Zeroizing<String> {
        let mut shown = Zeroizing::new(String::with_capacity(SYMBOLS + 3));
        for (index, symbol) in self.0.chars().enumerate() {
            if index > 0 && index % 4 == 0 {
                shown.push('-');
            }
            shown.push(symbol);
        }
        shown
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }
}

/// What a proof is bound to: the certificate of the connection and both nonces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Of the certificate the node presents on this connection.
    pub certificate: Fingerprint,
    /// Chosen by the client.
    pub client_nonce: [u8; NONCE_BYTES],
    /// Chosen by the node.
    pub server_nonce: [u8; NONCE_BYTES],
}

impl Exchange {
    /// The node's proof:
    /// `HMAC-SHA256(code, "ingot-pair-server" || certificate fingerprint || client_nonce || server_nonce)`, all as raw bytes.
    #[must_use]
    pub fn server_proof(&self, code: &PairingCode) -> [u8; PROOF_BYTES] {
        sign(code, &self.server_message())
    }

    /// Whether the node knows the code. Takes the same time for every wrong proof.
    #[must_use]
    pub fn verify_server_proof(&self, code: &PairingCode, proof: &[u8]) -> bool {
        hmac::verify(&code.key(), &self.server_message(), proof).is_ok()
    }

    /// The client's proof:
    /// `HMAC-SHA256(code, "ingot-pair-client" || certificate fingerprint || client_nonce || server_nonce || SHA-256(config))`.
    #[must_use]
    pub fn client_proof(&self, code: &PairingCode, config: &str) -> [u8; PROOF_BYTES] {
        sign(code, &self.client_message(config))
    }

    /// Whether the client knows the code and sent this very config. Takes the same time for every wrong proof.
    #[must_use]
    pub fn verify_client_proof(&self, code: &PairingCode, config: &str, proof: &[u8]) -> bool {
        hmac::verify(&code.key(), &self.client_message(config), proof).is_ok()
    }

    /// Every part but the label has a fixed length, so no two exchanges share a message.
    fn server_message(&self) -> Vec<u8> {
        [SERVER_LABEL, &self.certificate.0, &self.client_nonce, &self.server_nonce].concat()
    }

    fn client_message(&self, config: &str) -> Vec<u8> {
        let config = digest::digest(&digest::SHA256, config.as_bytes());
        [CLIENT_LABEL, &self.certificate.0, &self.client_nonce, &self.server_nonce, config.as_ref()]
            .concat()
    }
}

/// 32 random bytes.
///
/// # Errors
/// [`Error::Random`] when there are none.
pub fn nonce() -> Result<[u8; NONCE_BYTES], Error> {
    let mut bytes = [0; NONCE_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

fn sign(code: &PairingCode, message: &[u8]) -> [u8; PROOF_BYTES] {
    let tag = hmac::sign(&code.key(), message);
    let mut proof = [0; PROOF_BYTES];
    proof.copy_from_slice(tag.as_ref());
    proof
}
