//! What a client wants to speak, read from the headers of its request, and the answer. No I/O.

use crate::websocket::{Encoding, accept_key};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::{Response, StatusCode};

/// Body of an answer.
pub(crate) type Body = Full<Bytes>;

/// An answer that ends the matter.
pub(crate) type Refusal = Box<Response<Body>>;

const SPDY_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY_ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const WS_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const WS_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WS_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");
const WS_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// How bytes travel after the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// SPDY/3.1. `json`: results are `metav1.Status`; `resize`: there is a stream for sizes.
    Spdy { json: bool, resize: bool },
    /// Channels in WebSocket messages.
    Channels { encoding: Encoding, json: bool },
    /// SPDY/3.1 in WebSocket messages.
    Tunnel,
}

/// A subprotocol's name and what it means. An empty name is for clients that name none.
type Known = (&'static str, Transport);

const fn spdy(json: bool, resize: bool) -> Transport {
    Transport::Spdy { json, resize }
}

const fn binary(json: bool, close: bool) -> Transport {
    Transport::Channels { encoding: Encoding::Binary { close }, json }
}

const fn base64(json: bool) -> Transport {
    Transport::Channels { encoding: Encoding::Base64, json }
}

/// Which clients are served.
pub(crate) struct Offer {
    spdy: &'static [Known],
    websocket: &'static [Known],
}

/// Exec and attach.
pub(crate) const REMOTE_COMMAND: Offer = Offer {
    spdy: &[
        ("v4.channel.k8s.io", spdy(true, true)),
        ("v3.channel.k8s.io", spdy(false, true)),
        ("v2.channel.k8s.io", spdy(false, false)),
        ("channel.k8s.io", spdy(false, false)),
    ],
    websocket: &[
        ("v5.channel.k8s.io", binary(true, true)),
        ("v4.channel.k8s.io", binary(true, false)),
        ("v4.base64.channel.k8s.io", base64(true)),
        ("channel.k8s.io", binary(false, false)),
        ("base64.channel.k8s.io", base64(false)),
        ("", binary(false, false)),
    ],
};

/// Port-forward.
pub(crate) const PORT_FORWARD: Offer = Offer {
    spdy: &[("portforward.k8s.io", spdy(false, false))],
    websocket: &[
        ("SPDY/3.1+portforward.k8s.io", Transport::Tunnel),
        ("v2.portforward.k8s.io", Transport::Tunnel),
        ("v4.channel.k8s.io", binary(false, false)),
        ("v4.base64.channel.k8s.io", base64(false)),
        ("", binary(false, false)),
    ],
};

/// Chooses a transport and makes the answer that begins it, or the answer that refuses.
pub(crate) fn negotiate(
    headers: &HeaderMap,
    offer: &Offer,
) -> Result<(Transport, Response<Body>), Refusal> {
    let upgrades = contains(headers, &CONNECTION, "upgrade");
    if upgrades && contains(headers, &UPGRADE, "websocket") {
        websocket(headers, offer.websocket)
    } else if upgrades && contains(headers, &UPGRADE, "spdy/3.1") {
        spdy31(headers, offer.spdy)
    } else {
        Err(refuse(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request",
        ))
    }
}

fn spdy31(headers: &HeaderMap, known: &[Known]) -> Result<(Transport, Response<Body>), Refusal> {
    let wanted: Vec<_> = values(headers, &SPDY_VERSION).collect();
    if wanted.is_empty() {
        let text = "unable to upgrade: no X-Stream-Protocol-Version in request";
        return Err(refuse(StatusCode::BAD_REQUEST, text));
    }
    let Some((name, transport)) = choose(&wanted, known) else {
        let text = "unable to upgrade: unable to negotiate protocol";
        let mut response = refuse(StatusCode::FORBIDDEN, text);
        for (name, _) in known {
            response.headers_mut().append(SPDY_ACCEPTED, HeaderValue::from_static(name));
        }
        return Err(response);
    };
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert(SPDY_VERSION, HeaderValue::from_static(name));
    Ok((transport, response))
}

fn websocket(headers: &HeaderMap, known: &[Known]) -> Result<(Transport, Response<Body>), Refusal> {
    let key = headers.get(WS_KEY).filter(|_| contains(headers, &WS_VERSION, "13"));
    let Some(key) = key else {
        let text = "unable to upgrade: not a WebSocket request of version 13";
        return Err(refuse(StatusCode::BAD_REQUEST, text));
    };
    let mut wanted: Vec<_> = values(headers, &WS_PROTOCOL).collect();
    if wanted.is_empty() {
        wanted.push("");
    }
    let Some((name, transport)) = choose(&wanted, known) else {
        let text = "unable to upgrade: requested protocols are not supported";
        return Err(refuse(StatusCode::FORBIDDEN, text));
    };
    let mut response = switching("websocket");
    if let Ok(accept) = HeaderValue::from_str(&accept_key(key.as_bytes())) {
        response.headers_mut().insert(WS_ACCEPT, accept);
    }
    if !name.is_empty() {
        response.headers_mut().insert(WS_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok((transport, response))
}

/// The first that the client named and the server knows.
fn choose(wanted: &[&str], known: &[Known]) -> Option<Known> {
    wanted.iter().find_map(|name| known.iter().find(|(known, _)| known == name)).copied()
}

/// All values of a header, whether it came in several lines or with commas.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|value| !value.is_empty())
}

fn contains(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    values(headers, name).any(|known| known.eq_ignore_ascii_case(value))
}

fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

/// Makes a refusal.
pub(crate) fn refuse(status: StatusCode, text: &'static str) -> Refusal {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    // A client that was refused has nothing more to say here.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Box::new(response)
}

#[cfg(test)]
mod tests;
