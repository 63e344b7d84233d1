//! Metrics with the names and labels that cAdvisor has, so that dashboards of Kubernetes go on working.

mod read;
mod values;

use ingot_runtime::sandboxes::usage::{ContainerUsage, SandboxUsage};
use tonic::Status;

use super::{Pieces, pieces};
use crate::server::Parts;
use crate::{show, v1};
use read::{Facts, Value};
use values::METRICS;

/// Labels of every metric: the first three are cAdvisor's own, the others make a series findable in Kubernetes.
const LABELS: &[&str] = &["id", "name", "image", "namespace", "pod", "container"];

pub(super) async fn descriptors(
    _: &Parts,
    _: v1::ListMetricDescriptorsRequest,
) -> Result<v1::ListMetricDescriptorsResponse, Status> {
    let describe = |metric: &values::Metric| v1::MetricDescriptor {
        name: metric.name.to_owned(),
        help: metric.help.to_owned(),
        label_keys: LABELS.iter().chain(metric.labels).map(|label| (*label).to_owned()).collect(),
    };
    let descriptors = METRICS.iter().map(describe).collect();
    Ok(v1::ListMetricDescriptorsResponse { descriptors })
}

pub(super) async fn list(
    parts: &Parts,
    _: v1::ListPodSandboxMetricsRequest,
) -> Result<v1::ListPodSandboxMetricsResponse, Status> {
    Ok(v1::ListPodSandboxMetricsResponse { pod_metrics: all(parts).await })
}

pub(super) async fn stream(
    parts: &Parts,
    _: v1::StreamPodSandboxMetricsRequest,
) -> Result<Pieces<v1::StreamPodSandboxMetricsResponse>, Status> {
    let items = all(parts).await;
    Ok(pieces(items, |metrics| v1::StreamPodSandboxMetricsResponse {
        pod_sandbox_metrics: metrics,
    }))
}

async fn all(parts: &Parts) -> Vec<v1::PodSandboxMetrics> {
    let ready = parts.sandboxes.list().into_iter().filter(|sandbox| sandbox.is_ready());
    let usage = parts.sandboxes.sandbox_usage(ready.collect()).await;
    let device = parts.images.usage().mountpoint.to_string_lossy().into_owned();
    usage.iter().map(|usage| of_sandbox(usage, &device)).collect()
}

/// Network is the pod's; all else is counted for each container and for the pod as a whole.
fn of_sandbox(usage: &SandboxUsage, device: &str) -> v1::PodSandboxMetrics {
    let config = &usage.sandbox.config;
    let labels = |id: String, name: &str, image: &str, container: &str| {
        let labels = [id.as_str(), name, image, &config.namespace, &config.name, container];
        labels.map(str::to_owned).to_vec()
    };
    let facts = Facts {
        cgroup: &usage.cgroup,
        resources: &usage.sandbox.resources,
        interfaces: &usage.interfaces,
        container: None,
        at: usage.at,
        device,
    };
    let own = labels(usage.sandbox.id.clone(), &config.name, "", "");
    let of_container = |container: &ContainerUsage| {
        let about = &container.container;
        let names = labels(about.id.clone(), &about.id, &about.image.name, &about.config.name);
        let facts = Facts {
            cgroup: &container.cgroup,
            resources: &about.resources,
            interfaces: &[],
            container: Some(container),
            at: container.at,
            device,
        };
        v1::ContainerMetrics { container_id: about.id.clone(), metrics: measured(&facts, &names) }
    };
    v1::PodSandboxMetrics {
        pod_sandbox_id: usage.sandbox.id.clone(),
        metrics: measured(&facts, &own),
        container_metrics: usage.containers.iter().map(of_container).collect(),
    }
}

/// All metrics that can be told of something.
fn measured(facts: &Facts<'_>, labels: &[String]) -> Vec<v1::Metric> {
    let timestamp = show::nanoseconds(Some(facts.at));
    let of = |metric: &'static values::Metric| {
        (metric.read)(facts).into_iter().map(move |Value { labels: more, value }| v1::Metric {
            name: metric.name.to_owned(),
            timestamp,
            metric_type: metric.kind.into(),
            label_values: labels.iter().cloned().chain(more).collect(),
            value: Some(v1::UInt64Value { value }),
        })
    };
    METRICS.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests;
