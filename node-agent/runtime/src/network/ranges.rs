//! Which addresses pods may get: those of the machine config, and those that the kubelet named for its own pods. The kubelet
//! does not name them again to an agent that starts anew, so they are kept on disk.

use std::path::{Path, PathBuf};

use ingot_machine_config::IpNet;

use crate::durable::{self, Survives, WriteError};
use crate::engine::Subnet;

/// Answers of the kubelet that are kept at most. Pods live on in a former one; a kubelet that changes its mind more often
/// than this is broken.
const NAMED_MAX: usize = 4;

/// The ranges.
#[derive(Debug)]
pub(super) struct Ranges {
    path: PathBuf,
    own: Vec<Subnet>,
    /// What the kubelet named, the newest last.
    named: Vec<Vec<Subnet>>,
}

impl Ranges {
    /// Reads what the kubelet named. A file that is broken counts as none: the kubelet names them again when it starts.
    pub(super) fn load(folder: &Path, own: Vec<Subnet>) -> Self {
        let path = folder.join("pod-cidrs.json");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let named: Vec<Vec<IpNet>> = serde_json::from_str(&text).unwrap_or_default();
        let subnets = |nets: Vec<IpNet>| nets.iter().map(subnet).collect();
        Self { path, own, named: named.into_iter().map(subnets).collect() }
    }

    /// For the node's own pods.
    pub(super) fn own(&self) -> Vec<Subnet> {
        self.own.clone()
    }

    /// What the kubelet named last, if it did.
    pub(super) fn named(&self) -> Vec<Subnet> {
        self.named.last().cloned().unwrap_or_default()
    }

    /// For the kubelet's pods.
    pub(super) fn for_kubelet(&self) -> Vec<Subnet> {
        if self.named.is_empty() { self.own() } else { self.named() }
    }

    /// All that any pod may have an address of.
    pub(super) fn all(&self) -> Vec<Subnet> {
        let mut all: Vec<Subnet> = Vec::new();
        for subnet in self.own.iter().chain(self.named.iter().flatten()) {
            if !all.contains(subnet) {
                all.push(*subnet);
            }
        }
        all
    }

    /// The range an address is from.
    pub(super) fn of(&self, address: std::net::IpAddr) -> Option<Subnet> {
        // The smallest: a range of the kubelet may lie within one of the node's, or around it.
        let fitting = self.all().into_iter().filter(|s| super::lease::contains(*s, address));
        fitting.max_by_key(|subnet| subnet.prefix)
    }

    /// Notes what the kubelet named; false when it said so before.
    pub(super) fn name(&mut self, subnets: Vec<Subnet>) -> Result<bool, WriteError> {
        if self.named() == subnets || subnets.is_empty() {
            return Ok(false);
        }
        let mut named = self.named.clone();
        named.retain(|former| *former != subnets);
        named.push(subnets);
        named.drain(..named.len().saturating_sub(NAMED_MAX));
        let nets: Vec<Vec<String>> = named.iter().map(|s| s.iter().map(text).collect()).collect();
        // A list of strings.
        let bytes = serde_json::to_vec(&nets).unwrap_or_default();
        durable::replace(&self.path, &bytes, Survives::PowerLoss)?;
        self.named = named;
        Ok(true)
    }
}

fn subnet(net: &IpNet) -> Subnet {
    Subnet { address: net.network(), prefix: net.prefix_len() }
}

fn text(subnet: &Subnet) -> String {
    format!("{}/{}", subnet.address, subnet.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Subnet {
        subnet(&text.parse().unwrap())
    }

    #[test]
    fn what_the_kubelet_named_outlives_the_agent_and_former_ranges_stay_known() {
        let folder = tempfile::tempdir().unwrap();
        let own = vec![parse("10.244.0.0/24")];
        let mut ranges = Ranges::load(folder.path(), own.clone());
        assert_eq!(ranges.for_kubelet(), own);
        let (first, second) = (vec![parse("10.1.0.0/24")], vec![parse("10.2.0.0/24")]);
        assert!(ranges.name(first.clone()).unwrap());
        assert!(!ranges.name(first.clone()).unwrap());
        assert!(ranges.name(second.clone()).unwrap());
        let ranges = Ranges::load(folder.path(), own.clone());
        assert_eq!((ranges.own(), ranges.for_kubelet()), (own.clone(), second.clone()));
        assert_eq!(ranges.all(), [own, first, second].concat());
        assert_eq!(ranges.of("10.1.0.9".parse().unwrap()), Some(parse("10.1.0.0/24")));
    }

    #[test]
    fn a_broken_file_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pod-cidrs.json"), b"[[\"10.1").unwrap();
        assert_eq!(Ranges::load(folder.path(), Vec::new()).all(), []);
    }
}
