//! The store against a registry inside this process: what a pull leaves on the disk, and what it refuses.
//!
//! The registry answers whatever a test wants, truth or lies. Nothing here asserts how long something takes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, helpers included")]

mod archives;
mod auth;
mod broken;
mod build;
mod damage;
mod hostile;
mod layers;
mod pull;
mod registry;
mod store;
mod tls;
