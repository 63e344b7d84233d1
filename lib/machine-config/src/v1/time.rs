//! Section `time`: where the time comes from.

use crate::format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the time comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Time {
    /// Keep the clock right over the network. `false` leaves it to the hardware clock.
    pub enabled: bool,
    /// NTP servers, as names or addresses. Those from DHCP are used only when this list is empty.
    #[schemars(with = "Vec<format::Host>", length(max = 16))]
    pub servers: Vec<String>,
}

impl Default for Time {
    fn default() -> Self {
        Self { enabled: true, servers: vec!["pool.ntp.org".to_owned()] }
    }
}
