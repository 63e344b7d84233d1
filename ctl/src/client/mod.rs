//! Connects to a node, pairs with one that has no config yet, and calls it, with a deadline on everything.
//!
//! A node is recognised by its certificate authority and the name [`ingot_pki::NODE_SERVER_NAME`], never by its address,
//! so forwarded ports and NAT do not matter.
//!
//! ```no_run
//! # async fn example(credentials: ingot_ctl::client::Credentials) -> Result<(), ingot_ctl::client::Error> {
//! use ingot_api::machine::v1::StatusRequest;
//! use ingot_ctl::client::{Node, Target};
//! let target = Target::new("127.0.0.1:50000".parse()?, credentials);
//! let node = Node::connect(&target).await?;
//! let status = node.call("Status", StatusRequest {}, async |mut api, request| api.status(request).await).await?;
//! # Ok(()) }
//! ```

mod channel;
mod dial;
mod endpoint;
mod error;
mod node;
mod pair;
mod resolve;
mod tls;

pub use endpoint::{DEFAULT_PORT, Endpoint};
pub use error::{Distrust, Error, Kind, Refusal};
pub use node::{Node, NodeStream, Target};
pub use pair::Unpaired;
pub use tls::Credentials;

use std::time::Duration;

/// How long a call may take when nobody says otherwise. A node under software emulation answers in a tenth of it.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
