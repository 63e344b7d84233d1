//! A node for the suites of the CRI: its images come from a registry of this program, and its socket is reached through a relay.

use std::rc::Rc;

use anyhow::Context as _;

use super::CriKit;
use crate::artifacts::Artifacts;
use crate::credentials::Credentials;
use crate::cri::RELAY_PORT;
use crate::documents;
use crate::machine::{Firmware, Machine};
use crate::registry::Registry;

/// Where the node's CRI listens.
pub(crate) const SOCKET: &str = "/run/ingot/cri.sock";

/// Boots a node called `name` and waits until it runs. The registry must live as long as the node pulls.
pub(crate) async fn boot(
    artifacts: &Artifacts,
    kit: &CriKit,
    name: &str,
    memory_mib: u32,
) -> anyhow::Result<(Machine, Registry)> {
    let registry = Registry::start(&kit.images)?;
    let credentials = Rc::new(Credentials::generate()?);
    let machine = documents::machine(&credentials, name);
    let config = [documents::with_mirror(&machine, &registry.guest_url()), documents::relay()];
    let mut machine = Machine::builder(artifacts, name)
        .firmware(Firmware::Direct)
        .memory_mib(memory_mib)
        .forward(RELAY_PORT)
        .cidata(documents::stream(&config))
        .credentials(credentials)
        .boot()
        .await?;
    machine.wait_running().await.context("boot a node for the CRI")?;
    Ok((machine, registry))
}
