//! Boots real images in QEMU and talks to them as an operator would.
#![forbid(unsafe_code)]

pub mod artifacts;
pub mod cidata;
pub mod client;
pub mod console;
pub mod credentials;
pub mod disk;
pub mod documents;
mod evidence;
pub mod faults;
pub mod machine;
mod ports;
pub mod qemu;
pub mod report;
pub mod suites;
pub mod wait;

pub use qemu::args::Clock;
