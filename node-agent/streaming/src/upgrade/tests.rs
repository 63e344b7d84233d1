//! Which protocol is chosen.

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn the_client_s_first_known_protocol_is_taken() {
    let headers = headers(&[
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v9.channel.k8s.io, v2.channel.k8s.io"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ]);
    let (transport, response) = negotiate(&headers, &REMOTE_COMMAND).unwrap();
    assert_eq!(transport, spdy(false, false));
    assert_eq!(response.headers()[SPDY_VERSION], "v2.channel.k8s.io");
}

#[test]
fn a_websocket_of_another_version_is_refused() {
    let headers = headers(&[
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "x"),
        ("sec-websocket-version", "8"),
    ]);
    let refused = negotiate(&headers, &REMOTE_COMMAND).unwrap_err();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}
