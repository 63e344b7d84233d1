//! What `ingot-init` (PID 1) and `ingot-initrd` are made of; a library only so that tests can reach it.
//!
//! PID 1 knows nothing of containers and configs, opens no network socket, and has one thread.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the first process must not have a way to panic"
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test that panics has failed, nothing more"
    )
)]

pub mod act;
pub mod agent;
pub mod clock;
pub mod early;
pub mod event;
pub mod initrd;
pub mod kernel;
pub mod last_words;
pub mod reap;
pub mod shutdown;
pub mod supervise;
pub mod system;
