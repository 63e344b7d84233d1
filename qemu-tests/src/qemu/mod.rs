//! The QEMU process: its command line and its control socket. Knows nothing of Ingot.

pub(crate) mod args;
pub(crate) mod process;
pub mod qmp;
