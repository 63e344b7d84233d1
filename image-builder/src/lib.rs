//! Recipe in, bootable bytes out: the image builder as a library, for `ingot-image`, `xtask` and the tests.
//!
//! It runs as any user, with no loop devices and no mounts; the same recipe gives the same bytes. It must not depend on
//! any program of the node (only on their finished binaries) and prints nothing by itself (see [`progress`]).

#![forbid(unsafe_code)]

pub mod digest;
pub mod progress;
pub mod tools;
