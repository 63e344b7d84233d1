//! What a client may do, written as an Organization in its certificate. Who may call which RPC is the agent's table.

use std::fmt;
use std::str::FromStr;

/// Prefix of an Organization that is a role.
const PREFIX: &str = "ingot:";

/// Roles, smallest first: each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May look.
    Reader,
    /// May look at everything and stop or restart the machine.
    Operator,
    /// May change the config.
    Admin,
}

impl Role {
    /// All roles, smallest first.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Operator, Self::Admin];

    /// "reader", "operator" or "admin".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// How the role is written in a certificate, e.g. `ingot:admin`.
    #[must_use]
    pub fn organization(self) -> String {
        format!("{PREFIX}{}", self.name())
    }

    /// The role an Organization stands for; `None` when it stands for none.
    #[must_use]
    pub fn from_organization(organization: &str) -> Option<Self> {
        organization.strip_prefix(PREFIX)?.parse().ok()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// A word that is no role.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no role; roles are reader, operator, admin")]
pub struct UnknownRole(pub String);
