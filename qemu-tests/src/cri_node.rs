//! A node whose CRI can be called: its images come from a registry of this program, and its socket is reached through a relay that it
//! runs as a pod.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;

use crate::artifacts::Artifacts;
use crate::credentials::Credentials;
use crate::cri::RELAY_PORT;
use crate::documents;
use crate::leaks;
use crate::machine::{Firmware, Machine, MachineBuilder};
use crate::registry::Registry;
use crate::wait;

/// Where a node's CRI listens.
pub const SOCKET: &str = "/run/ingot/cri.sock";

/// From a kill until another agent answers: only there so that a dead node ends the test.
const RETURN_LIMIT: Duration = Duration::from_secs(180);

/// The description of such a node, and the registry, which must live as long as the node pulls.
pub fn builder(
    artifacts: &Artifacts,
    images: &Path,
    name: &str,
) -> anyhow::Result<(MachineBuilder, Registry)> {
    let registry = Registry::start(images)?;
    let credentials = Rc::new(Credentials::generate()?);
    let machine = documents::machine(&credentials, &name.replace('_', "-"));
    let config = [documents::with_mirror(&machine, &registry.guest_url()), documents::relay()];
    let builder = Machine::builder(artifacts, name)
        .firmware(Firmware::Direct)
        .forward(RELAY_PORT)
        .cidata(documents::stream(&config))
        .credentials(credentials);
    Ok((builder, registry))
}

/// Boots such a node and waits until it runs.
pub async fn boot(
    artifacts: &Artifacts,
    images: &Path,
    name: &str,
    memory_mib: u32,
) -> anyhow::Result<(Machine, Registry)> {
    let (builder, registry) = builder(artifacts, images, name)?;
    let mut machine = builder.memory_mib(memory_mib).boot().await?;
    machine.wait_running().await.context("boot a node for the CRI")?;
    Ok((machine, registry))
}

/// Sends the agent SIGKILL, and waits for another process to answer.
pub async fn kill_agent(machine: &Machine) -> anyhow::Result<()> {
    let before = leaks::agent(&mut machine.api()?).await?;
    machine.api()?.kill_service("ingotd").await?;
    wait::until("the agent to come back", RETURN_LIMIT, async || {
        let now = leaks::agent(&mut machine.api()?).await?;
        Ok((now != before).then_some(()))
    })
    .await
}
