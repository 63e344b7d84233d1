//! The node's side of pairing: which nonces are open, who tried too often. The proofs themselves are `ingot_pki`'s.

use ingot_pki::pairing::{Exchange, NONCE_BYTES, PairingCode, nonce};
use ingot_pki::{Error, Fingerprint};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a nonce is good for.
const NONCE_LIFETIME: Duration = Duration::from_secs(120);
/// Open exchanges at a time; the oldest is given up.
const EXCHANGES_MAX: usize = 32;
/// Wrong proofs in one window before all are refused until it ends.
const FAILURES_MAX: u32 = 10;
/// Length of that window.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// Why a proof was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PairingError {
    /// The nonces were not handed out on this certificate, were used already, or are too old.
    #[error("the pairing exchange is unknown, already used, or older than two minutes")]
    UnknownExchange,
    /// The proof does not fit the code.
    #[error("the pairing code is wrong")]
    WrongCode,
    /// Too many wrong proofs.
    #[error("too many wrong pairing codes; the next try is allowed in a minute")]
    TooMany,
}

struct Open {
    exchange: Exchange,
    until: Instant,
}

struct Inner {
    code: PairingCode,
    open: VecDeque<Open>,
    failures: u32,
    window_ends: Instant,
}

/// Shared by the console, which shows the code, and the API. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pairing {
    inner: Arc<Mutex<Inner>>,
}

impl Pairing {
    /// A fresh code.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self::with_code(PairingCode::generate()?))
    }

    fn with_code(code: PairingCode) -> Self {
        let inner = Inner { code, open: VecDeque::new(), failures: 0, window_ends: Instant::now() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// The code, for the console only.
    pub(crate) fn shown_code(&self) -> String {
        self.lock().code.shown().to_string()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an exchange: a nonce of the node and the node's proof.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub(crate) fn begin(
        &self,
        certificate: Fingerprint,
        client_nonce: [u8; NONCE_BYTES],
        now: Instant,
    ) -> Result<([u8; NONCE_BYTES], Vec<u8>), Error> {
        let exchange = Exchange { certificate, client_nonce, server_nonce: nonce()? };
        let mut inner = self.lock();
        inner.open.retain(|open| open.until > now);
        if inner.open.len() == EXCHANGES_MAX {
            inner.open.pop_front();
        }
        inner.open.push_back(Open { exchange, until: now + NONCE_LIFETIME });
        Ok((exchange.server_nonce, exchange.server_proof(&inner.code).to_vec()))
    }

    /// Whether a client that sent this config knows the code. The exchange is used up either way.
    ///
    /// # Errors
    /// When it does not, or may not try now.
    pub(crate) fn check(
        &self,
        exchange: &Exchange,
        config: &str,
        proof: &[u8],
        now: Instant,
    ) -> Result<(), PairingError> {
        let mut inner = self.lock();
        if now >= inner.window_ends {
            inner.failures = 0;
        }
        if inner.failures >= FAILURES_MAX {
            return Err(PairingError::TooMany);
        }
        inner.open.retain(|open| open.until > now);
        let position = inner.open.iter().position(|open| open.exchange == *exchange);
        let open = position.and_then(|position| inner.open.remove(position));
        let result = match open {
            None => Err(PairingError::UnknownExchange),
            Some(_) if exchange.verify_client_proof(&inner.code, config, proof) => Ok(()),
            Some(_) => Err(PairingError::WrongCode),
        };
        if result == Err(PairingError::WrongCode) {
            if inner.failures == 0 {
                inner.window_ends = now + FAILURE_WINDOW;
            }
            inner.failures += 1;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: Fingerprint = Fingerprint([7; 32]);

    fn pairing() -> (Pairing, PairingCode) {
        let code = PairingCode::generate().unwrap();
        (Pairing::with_code(code.clone()), code)
    }

    fn exchange(pairing: &Pairing, now: Instant) -> Exchange {
        let (server_nonce, _) = pairing.begin(CERTIFICATE, [1; 32], now).unwrap();
        Exchange { certificate: CERTIFICATE, client_nonce: [1; 32], server_nonce }
    }

    #[test]
    fn the_right_code_is_accepted_once() {
        let (pairing, code) = pairing();
        let now = Instant::now();
        let exchange = exchange(&pairing, now);
        let proof = exchange.client_proof(&code, "config");
        assert_eq!(pairing.check(&exchange, "config", &proof, now), Ok(()));
        let again = pairing.check(&exchange, "config", &proof, now);
        assert_eq!(again, Err(PairingError::UnknownExchange));
    }

    #[test]
    fn a_proof_for_another_config_or_certificate_is_refused() {
        let (pairing, code) = pairing();
        let now = Instant::now();
        let first = exchange(&pairing, now);
        let proof = first.client_proof(&code, "config");
        assert_eq!(pairing.check(&first, "other", &proof, now), Err(PairingError::WrongCode));
        let second = exchange(&pairing, now);
        let elsewhere = Exchange { certificate: Fingerprint([8; 32]), ..second };
        let proof = elsewhere.client_proof(&code, "config");
        let result = pairing.check(&elsewhere, "config", &proof, now);
        assert_eq!(result, Err(PairingError::UnknownExchange));
    }

    #[test]
    fn an_exchange_ends_after_two_minutes() {
        let (pairing, code) = pairing();
        let now = Instant::now();
        let exchange = exchange(&pairing, now);
        let proof = exchange.client_proof(&code, "config");
        let late = now + NONCE_LIFETIME;
        let result = pairing.check(&exchange, "config", &proof, late);
        assert_eq!(result, Err(PairingError::UnknownExchange));
    }

    #[test]
    fn after_ten_wrong_codes_even_the_right_one_waits_a_minute() {
        let (pairing, code) = pairing();
        let now = Instant::now();
        for _ in 0..FAILURES_MAX {
            let exchange = exchange(&pairing, now);
            let result = pairing.check(&exchange, "config", &[0; 32], now);
            assert_eq!(result, Err(PairingError::WrongCode));
        }
        let right = exchange(&pairing, now);
        let proof = right.client_proof(&code, "config");
        assert_eq!(pairing.check(&right, "config", &proof, now), Err(PairingError::TooMany));
        let later = now + FAILURE_WINDOW;
        let right = exchange(&pairing, later);
        let proof = right.client_proof(&code, "config");
        assert_eq!(pairing.check(&right, "config", &proof, later), Ok(()));
    }

    #[test]
    fn open_exchanges_are_bounded() {
        let (pairing, _) = pairing();
        let now = Instant::now();
        for _ in 0..EXCHANGES_MAX * 3 {
            exchange(&pairing, now);
        }
        assert_eq!(pairing.lock().open.len(), EXCHANGES_MAX);
    }
}
