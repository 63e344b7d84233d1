//! The machine config: what a person writes about a node, as types, with everything that can be wrong with it.
//!
//! A config is one stream of YAML documents: one `kind: Machine` ([`Machine`]) and any number of `kind: Pod` ([`Pod`]),
//! `kind: ConfigMap` ([`ConfigMap`]) and `kind: Secret` ([`SecretData`]).
//! [`load`] turns text into a [`Config`], or into every problem at once. The crate is pure: it opens no file, no socket
//! and no clock, and never logs. The agent, the command line and the image builder call it.

#![forbid(unsafe_code)]

mod changes;
mod check;
mod emit;
pub mod format;
pub mod join;
pub mod layout;
mod load;
pub mod manifest;
pub mod nocloud;
pub mod problem;
pub mod quantity;
mod redact;
pub mod reference;
mod schema;
pub mod secret;
mod tree;
pub mod v1;
mod validate;

pub use changes::changes;
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use load::load;
pub use problem::Problem;
pub use quantity::Quantity;
pub use redact::redact;
pub use secret::Secret;
pub use tree::MAX_BYTES;
pub use v1::data::{ConfigMap, SecretData};
pub use v1::machine::Machine;
pub use v1::pod::Pod;

/// Everything the node was told to be: the content of a whole config stream, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The node's own settings, from the `kind: Machine` document.
    pub machine: Machine,
    /// The pods the node runs by itself, in the order they were written.
    pub pods: Vec<Pod>,
    /// Files and variables for pods.
    pub config_maps: Vec<ConfigMap>,
    /// Files and variables for pods that must not be shown.
    pub secrets: Vec<SecretData>,
}

/// What came out of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The config; there is none when there are problems.
    pub config: Option<Config>,
    /// Everything that is wrong, by place in the text.
    pub problems: Vec<Problem>,
}
