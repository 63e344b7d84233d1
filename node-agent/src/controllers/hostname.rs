//! The node's name: from the config, else from DHCP, else made from the machine's identity.

use super::{Controller, Outcome, Want};
use crate::state::State;
use sha2::{Digest as _, Sha256};
use std::fs;

/// Where the kernel keeps the name.
const KERNEL: &str = "/proc/sys/kernel/hostname";
/// Firmware's identity of the machine, the same at every boot.
const MACHINE: &str = "/sys/class/dmi/id/product_uuid";
/// Name of a machine without an identity.
const FALLBACK: &str = "ingot";

/// The hostname controller.
pub(crate) struct Hostname {
    state: State,
    observed: tokio::sync::watch::Receiver<u64>,
}

impl Hostname {
    /// Publishes the name in `state.observed`.
    pub(crate) fn new(state: State) -> Self {
        let observed = state.observed.subscribe();
        Self { state, observed }
    }
}

/// What is there, and what should be.
#[derive(Debug)]
pub(crate) struct Have {
    current: String,
    wanted: String,
}

impl Controller for Hostname {
    type Have = Have;
    type Step = String;

    const NAME: &'static str = "hostname";
    const WITHOUT_CONFIG: bool = true;

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Have> {
        self.observed.borrow_and_update();
        let from_config =
            want.config.as_ref().and_then(|c| c.config.machine.network.hostname.clone());
        let seen = self.state.observed.snapshot();
        let from_drive = seen.drive_network.and_then(|network| network.hostname);
        let from_config = from_config.or_else(|| want.config.is_none().then_some(from_drive)?);
        let from_dhcp = seen.dhcp_hostname;
        let identity = fs::read_to_string(MACHINE).unwrap_or_default();
        let wanted = name(from_config, from_dhcp, identity.trim());
        let current = fs::read_to_string(KERNEL)?.trim().to_owned();
        if current == wanted {
            self.state.observed.set(|seen| &mut seen.hostname, current.clone());
        }
        Ok(Have { current, wanted })
    }

    fn plan(&self, _: &Want, have: &Have) -> Vec<String> {
        if have.current == have.wanted { Vec::new() } else { vec![have.wanted.clone()] }
    }

    async fn apply(&mut self, _: &Want, name: String) -> anyhow::Result<()> {
        Ok(fs::write(KERNEL, name)?)
    }

    fn outcome(&self, _: &Want, have: &Have) -> Outcome {
        Outcome::Ok(have.current.clone())
    }

    async fn woken(&mut self) {
        // Cancel safe. An error means that the program ends.
        let _ = self.observed.changed().await;
    }
}

fn name(from_config: Option<String>, from_dhcp: Option<String>, identity: &str) -> String {
    from_config.or(from_dhcp).unwrap_or_else(|| {
        if identity.is_empty() {
            return FALLBACK.into();
        }
        let digest = Sha256::digest(identity);
        let short: String = digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
        format!("{FALLBACK}-{short}")
    })
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn the_config_names_the_node_then_dhcp_then_the_machine() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(name(text("a"), text("b"), "id"), "a");
        assert_eq!(name(None, text("b"), "id"), "b");
        assert_eq!(name(None, None, ""), "ingot");
        assert_eq!(name(None, None, "id"), name(None, None, "id"));
        assert!(name(None, None, "id").starts_with("ingot-"));
    }
}
