//! Metrics and their descriptors fit together.

use std::sync::Arc;

use ingot_runtime::config::Resources;
use ingot_runtime::sandboxes::usage::CgroupUsage;
use jiff::Timestamp;

use super::*;

#[test]
fn there_are_56_metrics_with_different_names_in_order() {
    let names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(names, sorted);
    assert_eq!(names.len(), 56);
}

#[test]
fn every_series_has_the_labels_of_its_descriptor() {
    let cgroup = CgroupUsage::default();
    let resources = Arc::new(Resources::default());
    let facts = Facts {
        cgroup: &cgroup,
        resources: &resources,
        interfaces: &[],
        container: None,
        at: Timestamp::now(),
        device: "/",
    };
    for metric in METRICS {
        for value in (metric.read)(&facts) {
            assert_eq!(value.labels.len(), metric.labels.len(), "{}", metric.name);
        }
    }
}
