//! Which sandboxes and containers a caller wants to see: all conditions at once, ids also by their beginning.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ingot_runtime::sandboxes::{Container, Sandbox};

use crate::show;
use crate::v1;

/// Whether an id is meant: no condition, the whole id, or its beginning.
fn is_meant(id: &str, wanted: &str) -> bool {
    id.starts_with(wanted)
}

/// Whether every wanted label is there with that value.
fn has_labels(labels: &BTreeMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The sandboxes that a filter means.
pub(crate) fn sandboxes(
    all: Vec<Arc<Sandbox>>,
    filter: Option<v1::PodSandboxFilter>,
) -> Vec<Arc<Sandbox>> {
    let filter = filter.unwrap_or_default();
    let wanted = |sandbox: &Arc<Sandbox>| {
        is_meant(&sandbox.id, &filter.id)
            && filter.state.is_none_or(|s| s.state == show::sandbox_state(sandbox) as i32)
            && has_labels(&sandbox.config.labels, &filter.label_selector)
    };
    all.into_iter().filter(wanted).collect()
}

/// The containers that a filter means.
pub(crate) fn containers(
    all: &[Arc<Sandbox>],
    filter: Option<v1::ContainerFilter>,
) -> Vec<Arc<Container>> {
    let filter = filter.unwrap_or_default();
    let wanted = |container: &&Arc<Container>| {
        is_meant(&container.id, &filter.id)
            && filter.state.is_none_or(|s| s.state == show::container_state(container) as i32)
            && has_labels(&container.config.labels, &filter.label_selector)
    };
    let sandboxes = all.iter().filter(|sandbox| is_meant(&sandbox.id, &filter.pod_sandbox_id));
    sandboxes.flat_map(|sandbox| &sandbox.containers).filter(wanted).cloned().collect()
}
