//! Kubernetes on this node: what was bootstrapped, which certificates and files the cluster's own programs need, and what they
//! are started with. Pure but for files below one folder; the controllers of the same name carry it out.
//!
//! - [`record`] says what was bootstrapped, and who may do so; [`join`] the same for workers.
//! - [`authorities`] and [`certificates`] are who trusts whom.
//! - [`components`] are the programs as pods of the node's own, [`files`] what they read.
//! - [`client`] speaks with the API server and with etcd, [`addons`] applies manifests with it.

pub(crate) mod access;
pub(crate) mod addons;
pub(crate) mod authorities;
pub(crate) mod balancer;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod components;
pub(crate) mod etcd;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod join;
pub(crate) mod kubelet;
pub(crate) mod leaving;
pub(crate) mod nodes;
pub(crate) mod record;
pub(crate) mod restore;
pub(crate) mod tokens;
pub(crate) mod upgrade;

use ingot_machine_config::Secret;
use ingot_machine_config::v1::kubernetes::Kubernetes as Section;
use record::Record;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Everything of the cluster that is on this node, but for what pods write.
const FOLDER: &str = "/var/lib/ingot/kubernetes";
/// Where images of the root are; the cluster's programs are one of them.
const IMAGES: &str = "/usr/share/ingot/images";
/// The repository of that image.
const IMAGE: &str = "ingot.local/kube";
/// Where the manifests of the add-ons are.
pub(crate) const ADDONS: &str = "/usr/share/ingot/kubernetes/addons";
/// Namespace of the node's own pods that are the control plane.
pub(crate) const NAMESPACE: &str = "control-plane";
/// Port of the API server.
pub(crate) const API_PORT: u16 = 6443;
/// Port of etcd for its clients.
pub(crate) const ETCD_PORT: u16 = 2379;

/// What of the cluster is known, shared by controllers and RPCs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    folder: Arc<PathBuf>,
    record: Arc<watch::Sender<Option<Arc<Record>>>>,
    seen: Arc<watch::Sender<Seen>>,
}

/// What was last seen in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether this node is ready, in the words of its condition; `None` before the API server knew it.
    pub(crate) node: Option<(bool, String)>,
    /// Add-ons, and how applying them went.
    pub(crate) addons: Vec<(String, Result<(), String>)>,
}

impl Kubernetes {
    /// Nothing known; [`Kubernetes::load`] reads what is on disk.
    pub(crate) fn new() -> Self {
        Self::at(FOLDER.into())
    }

    /// The same in another folder.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self {
            folder: Arc::new(folder),
            record: Arc::new(watch::Sender::new(None)),
            seen: Arc::new(watch::Sender::new(Seen::default())),
        }
    }

    /// The folder of the cluster.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads what was bootstrapped. VAR must be there.
    ///
    /// # Errors
    /// When there is a record that cannot be read: a node that forgot its cluster must not make another one.
    pub(crate) fn load(&self) -> Result<Option<Arc<Record>>, record::RecordError> {
        if let Some(record) = self.record() {
            return Ok(Some(record));
        }
        let record = record::read(&self.folder)?.map(Arc::new);
        if record.is_some() {
            self.record.send_replace(record.clone());
        }
        Ok(record)
    }

    /// What was bootstrapped, as far as it was read.
    pub(crate) fn record(&self) -> Option<Arc<Record>> {
        self.record.borrow().clone()
    }

    /// Writes what is bootstrapped, then tells.
    ///
    /// # Errors
    /// When it cannot be written; then nothing is bootstrapped.
    pub(crate) fn store(&self, record: Record) -> Result<(), record::RecordError> {
        record::write(&self.folder, &record)?;
        self.record.send_replace(Some(Arc::new(record)));
        Ok(())
    }

    /// Wakes its holder at a bootstrap.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Record>>> {
        self.record.subscribe()
    }

    /// What was last seen.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Notes what is seen.
    pub(crate) fn set_seen(&self, seen: Seen) {
        self.seen.send_replace(seen);
    }
}

/// Everything that the programs of the cluster are made from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cluster {
    /// What was bootstrapped.
    pub(crate) record: Record,
    /// What the config says.
    pub(crate) section: Section,
    /// Addresses of the node, the one that others use first.
    pub(crate) addresses: Vec<IpAddr>,
    /// Image of the programs.
    pub(crate) image: String,
    /// Memory of the machine.
    pub(crate) memory_bytes: u64,
    /// Folder of the cluster.
    pub(crate) folder: PathBuf,
    /// With what a worker that has no certificate yet asks for one.
    pub(crate) token: Option<Secret>,
}

impl Cluster {
    /// The node's address for others of the cluster.
    pub(crate) fn address(&self) -> IpAddr {
        self.addresses.first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1]))
    }

    /// Whether others made the cluster and this node only runs pods.
    pub(crate) fn is_worker(&self) -> bool {
        self.record.joined.is_some()
    }

    /// API servers that programs of this node speak with: its own, or what [`balancer`] leads to the others.
    pub(crate) fn api_servers(&self) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([127, 0, 0, 1], API_PORT))]
    }

    /// The address of the API server that programs of this node are given.
    pub(crate) fn local_endpoint(&self) -> String {
        let first = self.api_servers().first().copied();
        format!("https://{}", first.unwrap_or(SocketAddr::from(([127, 0, 0, 1], API_PORT))))
    }

    /// Address of the service of the cluster's name server: the tenth of the services, as everywhere.
    pub(crate) fn dns_addresses(&self) -> Vec<IpAddr> {
        self.record.service_cidrs.iter().map(|net| nth(net, 10)).collect()
    }

    /// Address of the service of the API server: the first of the services.
    pub(crate) fn service_addresses(&self) -> Vec<IpAddr> {
        self.record.service_cidrs.iter().map(|net| nth(net, 1)).collect()
    }
}

/// The address so many after the network's own.
fn nth(net: &ingot_machine_config::IpNet, number: u8) -> IpAddr {
    match net.network() {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4).wrapping_add(number.into())).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6).wrapping_add(number.into())).into()),
    }
}

/// Networks as programs of Kubernetes take them.
pub(crate) fn joined<T: ToString>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The image of the cluster's programs in the root: the newest by name, where there are several.
pub(crate) fn image() -> Option<String> {
    image_below(Path::new(IMAGES))
}

fn image_below(images: &Path) -> Option<String> {
    let entries = std::fs::read_dir(images.join(IMAGE)).ok()?;
    let mut tags: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("config.json").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    tags.sort();
    Some(format!("{IMAGE}:{}", tags.pop()?))
}

/// Memory of the machine in bytes, from /proc/meminfo; 0 when it cannot be told.
pub(crate) fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
pub(crate) mod tests;
