//! The server over real connections, against a minimal client of our own. (client-go was run against it by hand.)
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "suite/backend.rs"]
mod backend;
#[path = "suite/client.rs"]
mod client;
#[path = "suite/port_forward.rs"]
mod port_forward;
#[path = "suite/spdy.rs"]
mod spdy;
#[path = "suite/url.rs"]
mod url;
#[path = "suite/websocket.rs"]
mod websocket;
