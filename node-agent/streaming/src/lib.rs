//! The streaming server of the container runtime: exec, attach and port-forward, as a kubelet, crictl and critest speak them.
//!
//! [`Server`] hands out one-time URLs and serves them over HTTP/1.1 on the loopback address, upgraded to SPDY/3.1 or WebSocket. What
//! is run, attached to or dialled is the [`Backend`]'s business: it gets plain byte streams and gives back an exit status. This crate
//! must not know containers, pods or the CRI.
//!
//! SPDY/3.1 is written here because its users are few and the crates for it queue without a bound: the peer of this server is
//! whoever may call the CRI, but what they send was typed by somebody else. What is absent on purpose: server push, SPDY's
//! send window (the only client there is, moby/spdystream, never opens it, so honouring it stops after 64 KiB; TCP holds back instead),
//! and compression of what we send (an empty block needs none).
#![forbid(unsafe_code)]

mod backend;
mod early;
mod hangup;
mod link;
mod port_forward;
mod remote_command;
mod request;
mod resize;
mod server;
mod spdy;
mod status;
mod tokens;
mod upgrade;
mod websocket;

pub use backend::{Backend, BackendError, Duplex, ExecIo, Input, Output};
pub use request::{AttachRequest, ExecRequest, PortForwardRequest, RequestError, Streams};
pub use resize::{Resizes, TerminalSize};
pub use server::Server;
