//! The operator's side of the machine API: the client, which tests and the demo use too, and the command line on top.
//!
//! It must not know more about a node than the API says.
#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
mod commands;
pub mod contexts;
pub mod failure;
mod output;
mod session;
mod terminal;
mod text;

pub use commands::run;
