//! The pod network: a bridge on the node, one veth pair per pod, addresses from the configured subnets.

use std::net::IpAddr;
use std::path::Path;

use crate::engine::Subnet;

/// Why a pod could not be connected or disconnected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// All addresses of a subnet are taken.
    #[error("no free address left in {subnet}")]
    Exhausted { subnet: String },
}

/// The bridge and who has which address.
pub(crate) struct Network {
    subnets: Vec<Subnet>,
}

impl Network {
    pub(crate) fn new(subnets: Vec<Subnet>) -> Self {
        Self { subnets }
    }

    /// Picks free addresses for a pod, one per subnet.
    pub(crate) fn lease(&self, _uid: &str) -> Result<Vec<IpAddr>, NetworkError> {
        let _ = &self.subnets;
        Ok(Vec::new())
    }

    /// Takes addresses that a record says a pod has.
    pub(crate) fn adopt(&self, _uid: &str, _addresses: &[IpAddr]) {}

    /// Gives the addresses of a pod back.
    pub(crate) fn release(&self, _uid: &str) {}

    pub(crate) async fn attach(
        &self,
        _uid: &str,
        _namespace: &Path,
        _addresses: &[IpAddr],
    ) -> Result<(), NetworkError> {
        Ok(())
    }

    pub(crate) async fn detach(&self, _uid: &str) -> Result<(), NetworkError> {
        Ok(())
    }
}
