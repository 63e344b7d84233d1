//! The certificates of one test node: its authority and clients of every kind, good and bad.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use ingot_pki::{Ca, Identity, Role, Validity};

/// Long enough for any test, short enough that a leaked one is worthless.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How far a test may put back the clock of a node.
const CLOCKS_BEHIND: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An authority made for one test node, and its administrator.
#[derive(Debug)]
pub struct Credentials {
    /// Goes into the machine config.
    pub ca: Ca,
    /// What [`Machine::api`](crate::machine::Machine::api) calls with.
    pub admin: Identity,
}

impl Credentials {
    /// A new authority and administrator.
    pub fn generate() -> anyhow::Result<Self> {
        let ca = Ca::generate("Ingot tests", now()).context("make a test authority")?;
        let admin = ca.issue_client("test-admin", Role::Admin, now()).context("issue the admin")?;
        Ok(Self { ca, admin })
    }

    /// A client with this role.
    pub fn client(&self, role: Role) -> anyhow::Result<Identity> {
        self.ca.issue_client(&format!("test-{role}"), role, now()).context("issue a test client")
    }

    /// An administrator whose certificate ended a day ago.
    pub fn expired(&self) -> anyhow::Result<Identity> {
        let end = SystemTime::now() - LIFETIME;
        let validity = Validity { not_before: end - LIFETIME, not_after: end };
        self.ca
            .issue_client("test-expired", Role::Admin, validity)
            .context("issue an expired client")
    }

    /// The `api` section of a machine config that trusts this authority, and lets the node issue its own certificate.
    #[must_use]
    pub fn config_section(&self) -> String {
        let certificate = indent(&self.ca.certificate().to_pem());
        let key = indent(&self.ca.key().to_pem());
        format!("api:\n  ca:\n    certificate: |\n{certificate}    key: |\n{key}")
    }
}

/// Good for a while before now too: a node whose clock a test has put back still knows its operator.
fn now() -> Validity {
    let now = SystemTime::now();
    Validity { not_before: now - CLOCKS_BEHIND, not_after: now + LIFETIME }
}

fn indent(pem: &str) -> String {
    pem.lines().map(|line| format!("      {line}\n")).collect()
}
