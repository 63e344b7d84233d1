//! What an operator and a program see of this crate. One program, because linking is what takes time here.
#![forbid(unsafe_code)]

mod client;
mod commands;
mod fake;
mod help;
mod transcript;
