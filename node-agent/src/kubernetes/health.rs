//! What of the cluster on this node is up, what is waited for and for how long, part by part. Pure.

use super::components::{needs, owners};
use super::record::{Record, is_before};
use super::{NAMESPACE, Seen};
use ingot_machine_config::v1::kubernetes::Role as NodeRole;
use ingot_runtime::pod::Role;
use ingot_runtime::status::{ContainerState, PodStatus};
use std::sync::Arc;
use std::time::SystemTime;

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is up.
    Ok,
    /// Not yet.
    Waiting,
    /// Not, and it will not be by waiting alone.
    Failed,
}

impl Health {
    /// Lower-case word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its name.
    pub(crate) name: String,
    /// How it is.
    pub(crate) health: Health,
    /// What is waited for, or wrong.
    pub(crate) message: String,
    /// Since when, where that is known.
    pub(crate) since: Option<SystemTime>,
}

/// Restarts after which something that is not up is called broken.
const RESTARTS_BROKEN: u32 = 3;

/// A disk with less than one part in so many free is as good as full: the kubelet ends pods for room then.
const FULL_PART: u64 = 20;

/// All parts. `record` is the cluster, if there is one; `disk` the size of VAR and what is free of it, where that can be told.
pub(crate) fn parts(
    role: NodeRole,
    record: Option<&Record>,
    pods: &[Arc<PodStatus>],
    seen: &Seen,
    disk: Option<(u64, u64)>,
) -> Vec<Part> {
    let Some(record) = record else {
        return vec![match role {
            NodeRole::ControlPlane => {
                part("bootstrap", Health::Waiting, "for `ingotctl bootstrap`")
            }
            NodeRole::Worker => {
                let message =
                    "the condition \"kubernetes\" in `ingotctl status` says what is missing";
                part("join", Health::Waiting, message)
            }
        }];
    };
    let mut parts: Vec<Part> = Vec::new();
    for &owner in owners(record) {
        let pod = pods.iter().find(|pod| pod.namespace == NAMESPACE && pod.name == owner.name);
        parts.push(match pod {
            Some(pod) => program(pod),
            None => Part {
                name: owner.name.to_owned(),
                health: Health::Waiting,
                message: match needs(owner) {
                    Some(first) => format!("for {}", first.name),
                    None => "for the pod engine".to_owned(),
                },
                since: None,
            },
        });
    }
    parts.push(match &seen.node {
        Some((true, message)) => part("node", Health::Ok, message),
        Some((false, message)) => part("node", Health::Waiting, message),
        None => part("node", Health::Waiting, "for the API server"),
    });
    for (name, applied) in &seen.addons {
        parts.push(match applied {
            Ok(()) => part(&format!("addon/{name}"), Health::Ok, "applied"),
            Err(message) => part(&format!("addon/{name}"), Health::Failed, message),
        });
    }
    if seen.addons.is_empty() && record.joined.is_none() {
        parts.push(part("addons", Health::Waiting, "for the API server"));
    }
    parts.extend(disk.map(|(size, free)| room(size, free)));
    parts
}

/// The clock, when it is why nothing is started.
pub(crate) fn clock(record: &Record, now: SystemTime) -> Option<Part> {
    let hint = "it says a time before the cluster was made, so no certificate is good and nothing is started; set time.servers in the config, or the clock of the machine";
    is_before(record, now).then(|| part("clock", Health::Failed, hint))
}

/// The disk of etcd, images and volumes. Nothing says so clearly when it is full: etcd just ends.
fn room(size: u64, free: u64) -> Part {
    let sizes = format!("{} of {} MiB of VAR are free", free >> 20, size >> 20);
    if free >= size / FULL_PART {
        return part("disk", Health::Ok, &sizes);
    }
    let hint = "etcd writes nothing without room; delete pods with large volumes, or take them out of the config, then wait";
    part("disk", Health::Failed, &format!("{sizes}: {hint}"))
}

fn part(name: &str, health: Health, message: &str) -> Part {
    Part { name: name.to_owned(), health, message: message.to_owned(), since: None }
}

fn program(pod: &PodStatus) -> Part {
    let container = pod.containers.iter().find(|container| container.role == Role::Main);
    let restarts = container.map_or(0, |container| container.restarts);
    let ready = container.is_some_and(|container| container.ready);
    let since = container.and_then(|container| container.started_at).map(SystemTime::from);
    let (health, message) = match container {
        Some(_) if ready && restarts == 0 => (Health::Ok, "ready".to_owned()),
        Some(_) if ready => (Health::Ok, format!("ready, {restarts} restarts")),
        Some(container) if container.state == ContainerState::Running => {
            (Health::Waiting, "it runs and is not ready".to_owned())
        }
        Some(container) => {
            let words = [&pod.reason, &pod.message, &container.reason, &container.message];
            let said: Vec<&str> =
                words.into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
            let health = if restarts >= RESTARTS_BROKEN { Health::Failed } else { Health::Waiting };
            let end = format!(
                "{restarts} restarts; see `ingotctl logs -n {} {}`",
                pod.namespace, pod.name
            );
            (
                health,
                format!(
                    "{}; {end}",
                    if said.is_empty() { "it starts".into() } else { said.join(": ") }
                ),
            )
        }
        None => (Health::Waiting, format!("it starts {}", pod.message).trim_end().to_owned()),
    };
    Part { name: pod.name.clone(), health, message, since }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::tests::{cluster, worker};

    const HERE: NodeRole = NodeRole::ControlPlane;

    #[test]
    fn before_the_bootstrap_that_is_what_is_waited_for() {
        let parts = parts(HERE, None, &[], &Seen::default(), None);
        assert_eq!(parts.len(), 1);
        assert!(parts[0].message.contains("ingotctl bootstrap"));
    }

    #[test]
    fn each_part_says_what_it_waits_for() {
        let seen = Seen {
            node: Some((true, "kubelet is posting ready status".into())),
            addons: vec![("coredns".into(), Ok(())), ("storage".into(), Err("no".into()))],
        };
        let parts = parts(HERE, Some(&cluster().record), &[], &seen, Some((1000 << 20, 400 << 20)));
        let of = |name: &str| parts.iter().find(|part| part.name == name).unwrap();
        assert_eq!(of("kube-apiserver").message, "for etcd");
        assert_eq!(of("kube-scheduler").message, "for kube-apiserver");
        assert_eq!(of("node").health, Health::Ok);
        assert_eq!(of("addon/coredns").health, Health::Ok);
        assert_eq!(of("addon/storage").health, Health::Failed);
        assert_eq!(of("disk").message, "400 of 1000 MiB of VAR are free");
    }

    #[test]
    fn a_worker_has_fewer_parts() {
        let names = |record| {
            let parts = parts(NodeRole::Worker, record, &[], &Seen::default(), None);
            parts.into_iter().map(|part| part.name).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["join"]);
        assert_eq!(names(Some(&worker().record)), ["kubelet", "node"]);
    }

    #[test]
    fn a_clock_from_before_the_cluster_is_told_with_what_to_do() {
        let record = cluster().record;
        let made_at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(record.made_at);
        assert_eq!(clock(&record, made_at), None);
        let told = clock(&record, SystemTime::UNIX_EPOCH).unwrap();
        assert!(told.health == Health::Failed && told.message.contains("time.servers"));
    }

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let parts = parts(
            HERE,
            Some(&cluster().record),
            &[],
            &Seen::default(),
            Some((1000 << 20, 3 << 20)),
        );
        let disk = parts.iter().find(|part| part.name == "disk").unwrap();
        assert_eq!(disk.health, Health::Failed);
        assert!(disk.message.contains("3 of 1000 MiB") && disk.message.contains("delete"));
    }
}
