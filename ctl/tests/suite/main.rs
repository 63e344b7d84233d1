//! What an operator and a program see of this crate. One program, because linking is what takes time here.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop at the first surprise, as tests do")]

mod client;
mod commands;
mod fake;
mod help;
mod transcript;
