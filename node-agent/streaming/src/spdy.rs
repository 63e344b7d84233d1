//! SPDY/3.1, the server's side: streams that the peer opens, over any connection.

mod dictionary;
mod encode;
mod frame;
mod headers;
mod session;

pub(crate) use session::{Opened, Session};
