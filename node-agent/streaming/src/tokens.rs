//! One-time tokens: whoever knows one may make the request behind it, once, within a minute. Every program in the host's network can
//! reach the server, so the token is the only guard.

use crate::request::{Request, RequestError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What the kubelet's own library allows: long enough for an API server under load to follow the URL.
const LIFETIME: Duration = Duration::from_secs(60);

/// The same library's number. A waiting request is a few hundred bytes.
const MAX_WAITING: usize = 1000;

/// 192 bits; nobody guesses it in a minute.
const TOKEN_BYTES: usize = 24;

/// SHA-256 of a token. The table is searched by it, so the time of a look-up says nothing about the tokens that are in there.
type Key = [u8; 32];

#[derive(Default)]
pub(crate) struct Tokens {
    waiting: Mutex<HashMap<Key, Waiting>>,
}

struct Waiting {
    request: Request,
    expires: Instant,
}

impl Tokens {
    /// A token for a request.
    pub(crate) fn issue(&self, request: Request) -> Result<String, RequestError> {
        let mut bytes = [0; TOKEN_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| RequestError::Random)?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, entry| entry.expires > now);
        if waiting.len() >= MAX_WAITING {
            return Err(RequestError::Busy);
        }
        waiting.insert(key(&token), Waiting { request, expires: now + LIFETIME });
        Ok(token)
    }

    /// Whether a token may still be used.
    pub(crate) fn are_waiting(&self) -> bool {
        let now = Instant::now();
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.values().any(|entry| entry.expires > now)
    }

    /// The request behind a token, which is used up by asking.
    pub(crate) fn redeem(&self, token: &str) -> Option<Request> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = waiting.remove(&key(token))?;
        (entry.expires > Instant::now()).then_some(entry.request)
    }
}

fn key(token: &str) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

#[cfg(test)]
mod tests;
