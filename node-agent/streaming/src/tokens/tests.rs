//! Tokens are used once, expire, and are bounded.

use super::*;
use crate::request::PortForwardRequest;

fn request(id: &str) -> Request {
    Request::PortForward(PortForwardRequest { sandbox_id: id.to_owned(), ports: vec![] })
}

#[tokio::test(start_paused = true)]
async fn a_token_works_once() {
    let tokens = Tokens::default();
    let token = tokens.issue(request("a")).unwrap();
    assert_eq!(tokens.redeem("wrong"), None);
    assert_eq!(tokens.redeem(&token), Some(request("a")));
    assert_eq!(tokens.redeem(&token), None);
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_after_a_minute() {
    let tokens = Tokens::default();
    let token = tokens.issue(request("a")).unwrap();
    tokio::time::advance(LIFETIME).await;
    assert_eq!(tokens.redeem(&token), None);
}

#[tokio::test(start_paused = true)]
async fn too_many_waiting_requests_are_refused_until_old_ones_expire() {
    let tokens = Tokens::default();
    for _ in 0..MAX_WAITING {
        tokens.issue(request("a")).unwrap();
    }
    assert_eq!(tokens.issue(request("a")), Err(RequestError::Busy));
    tokio::time::advance(LIFETIME).await;
    assert!(tokens.issue(request("a")).is_ok());
}

#[test]
fn a_token_has_at_least_128_random_bits() {
    let tokens = Tokens::default();
    let (one, other) = (tokens.issue(request("a")).unwrap(), tokens.issue(request("a")).unwrap());
    assert_ne!(one, other);
    assert!(one.len() * 6 >= 128, "{one}");
}
