//! Free TCP ports of the host, for forwards into the guest.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context as _;

/// A port of 127.0.0.1 that was free a moment ago. Somebody else may take it before QEMU does: QEMU then refuses to start
/// and [`boot`](crate::machine::MachineBuilder::boot) says so.
pub(crate) fn free() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr().context("read the number of a free port")?.port())
}
