//! A pod from YAML, for the tests of what becomes of it.

use ingot_machine_config::{Config, load};

use crate::pod::Pod;
use crate::surroundings::{NodeFacts, Surroundings};

const MACHINE: &str = include_str!("../../../../configs/machine/minimal.yaml");

/// The config of a pod `web` with this spec, and of further documents.
pub(super) fn config(spec: &str, documents: &str) -> Config {
    let text = format!(
        "{MACHINE}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{app: shop}}, annotations: {{note: \"a\\nb\"}}}}\nspec:\n{spec}\n{documents}"
    );
    let loaded = load(&text);
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    loaded.config.unwrap_or_else(|| panic!("{}\n{text}", problems.join("\n")))
}

/// A pod with this spec.
pub(super) fn pod(spec: &str) -> Pod {
    Pod::from_config(&config(spec, "").pods[0], 100)
}

/// A pod and what it may ask for.
pub(super) fn pod_with(spec: &str, documents: &str) -> (Pod, Surroundings) {
    let config = config(spec, documents);
    let node = NodeFacts { name: "node-1".into(), addresses: vec!["192.0.2.10".parse().unwrap()] };
    (Pod::from_config(&config.pods[0], 100), Surroundings::new(&config, node))
}
