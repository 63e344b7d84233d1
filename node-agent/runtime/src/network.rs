//! The pod network: a bridge on the node, one veth pair per pod, addresses from the configured subnets.
//!
//! A pod's addresses are in its record before they are used, so the set of leases is rebuilt from records. It changes no
//! link but its own.

mod kernel;
mod lease;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ingot_linux::netns::NetnsError;
use sha2::{Digest as _, Sha256};

use crate::engine::Subnet;

/// Why a pod could not be connected or disconnected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The config gives no addresses to pods.
    #[error("there is no subnet for pods; set network.pods, or hostNetwork in the pod")]
    NoSubnet,
    /// All addresses of a subnet are taken.
    #[error("no free address is left in {address}/{prefix}")]
    Exhausted { address: IpAddr, prefix: u8 },
    /// No netlink socket.
    #[error("open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// The kernel refused.
    #[error("{what}")]
    Netlink {
        what: String,
        #[source]
        source: rtnetlink::Error,
    },
    /// A link that must be there is not.
    #[error("there is no link {name}")]
    NoLink { name: String },
    /// The pod's namespace could not be entered.
    #[error("work in the pod's network namespace")]
    Namespace(#[from] NetnsError),
    /// The pinned namespace could not be opened.
    #[error("open {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Forwarding could not be switched on.
    #[error("write {path}")]
    Sysctl {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The bridge and who has which address.
pub(crate) struct Network {
    subnets: Vec<Subnet>,
    leases: Mutex<HashMap<String, Vec<IpAddr>>>,
    /// Two pods at a time would both try to make the bridge.
    bridge: tokio::sync::Mutex<()>,
}

impl Network {
    pub(crate) fn new(subnets: Vec<Subnet>) -> Self {
        Self { subnets, leases: Mutex::default(), bridge: tokio::sync::Mutex::default() }
    }

    /// Picks free addresses for a pod, one per subnet. They are the pod's until [`Network::release`].
    pub(crate) fn lease(&self, uid: &str) -> Result<Vec<IpAddr>, NetworkError> {
        if self.subnets.is_empty() {
            return Err(NetworkError::NoSubnet);
        }
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.remove(uid);
        let taken: Vec<IpAddr> = leases.values().flatten().copied().collect();
        let mut picked = Vec::new();
        for subnet in &self.subnets {
            let free = lease::first_free(*subnet, &taken);
            let Subnet { address, prefix } = *subnet;
            picked.push(free.ok_or(NetworkError::Exhausted { address, prefix })?);
        }
        leases.insert(uid.to_owned(), picked.clone());
        Ok(picked)
    }

    /// Takes addresses that a record says a pod has.
    pub(crate) fn adopt(&self, uid: &str, addresses: &[IpAddr]) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.insert(uid.to_owned(), addresses.to_vec());
    }

    /// Gives the addresses of a pod back.
    pub(crate) fn release(&self, uid: &str) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Connects a pod's namespace to the bridge.
    pub(crate) async fn attach(
        &self,
        uid: &str,
        namespace: &Path,
        addresses: &[IpAddr],
    ) -> Result<(), NetworkError> {
        let kernel = kernel::Kernel::connect()?;
        let bridge = {
            let _alone = self.bridge.lock().await;
            kernel.bridge(&self.subnets).await?
        };
        kernel.veth(&veth_name(uid), bridge, namespace).await?;
        let own: Vec<(IpAddr, u8)> = addresses
            .iter()
            .filter_map(|address| {
                let same = |subnet: &&Subnet| subnet.address.is_ipv4() == address.is_ipv4();
                Some((*address, self.subnets.iter().find(same)?.prefix))
            })
            .collect();
        let gateways: Vec<IpAddr> =
            self.subnets.iter().filter_map(|subnet| lease::gateway(*subnet)).collect();
        kernel::configure_inside(namespace, &own, &gateways).await
    }

    /// Takes a pod's link away; none is fine.
    pub(crate) async fn detach(&self, uid: &str) -> Result<(), NetworkError> {
        kernel::Kernel::connect()?.remove(&veth_name(uid)).await
    }
}

/// Name of the node's end of a pod's link. Link names have at most 15 bytes, uids are longer.
fn veth_name(uid: &str) -> String {
    let digest = Sha256::digest(uid);
    let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("pod{hex}")
}
