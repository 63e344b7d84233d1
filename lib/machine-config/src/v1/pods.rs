//! Section `pods`: defaults and bounds for the pods the node runs by itself.

use crate::quantity::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Defaults for the pods the node runs by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pods {
    /// Most processes and threads one pod may have, where its annotation `ingot.dev/pids-limit` does not say otherwise.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub pids_limit: u32,
    /// A container's log file is rotated at this size.
    pub log_max_size: Quantity,
    /// How many log files are kept for each container, the one being written included.
    #[schemars(range(min = 1, max = 100))]
    pub log_max_files: u32,
    /// What the logs of all pods together may take of VAR. Beyond it the oldest files are deleted, but never the two newest of a
    /// container. When not given, an eighth of VAR, and at least 64Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_max_total: Option<Quantity>,
}

impl Default for Pods {
    fn default() -> Self {
        Self {
            pids_limit: 1024,
            log_max_size: Quantity::from_mebibytes(10),
            log_max_files: 5,
            log_max_total: None,
        }
    }
}
