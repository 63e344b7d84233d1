//! Recipe in, bootable bytes out: the image builder as a library, for `ingot-image`, `xtask` and the tests.
//!
//! It runs as any user, with no loop devices and no mounts; the same recipe gives the same bytes. It must not depend on
//! any program of the node (only on their finished binaries) and prints nothing by itself (see [`progress`]).

#![forbid(unsafe_code)]

pub mod apparmor;
pub mod binaries;
pub mod build;
pub mod cargo;
pub mod customize;
pub mod digest;
pub mod elf;
pub mod formats;
pub mod initrd;
pub mod inputs;
pub mod kubernetes;
pub mod manifest;
pub mod modules;
pub mod plan;
pub mod progress;
pub mod recipe;
pub mod root;
pub mod sbom;
pub mod sizes;
pub mod tools;
pub mod tree;
pub mod write;

pub use build::{BuildError, BuildOptions, Built, Variant, build};
pub use customize::customize;
pub use manifest::Manifest;
