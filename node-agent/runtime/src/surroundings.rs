//! What pods may ask for besides themselves: ConfigMaps, Secrets, and facts about the node. Kept in memory only; never logged.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ingot_machine_config::Config;
use ingot_machine_config::v1::data::{DOCKER_CONFIG_KEY, DOCKER_CONFIG_TYPE};
use ingot_machine_config::v1::pod::DataKind;

/// Bytes by key.
pub type Keys = BTreeMap<String, Vec<u8>>;

/// Everything pods may ask for.
#[derive(Clone, Default, PartialEq)]
pub struct Surroundings {
    /// Facts about the node.
    pub node: NodeFacts,
    /// By namespace and name.
    config_maps: BTreeMap<(String, String), Keys>,
    secrets: BTreeMap<(String, String), Keys>,
    /// Secrets with credentials for registries.
    registries: BTreeMap<(String, String), Vec<u8>>,
}

/// Facts about the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its addresses, the one that others use first.
    pub addresses: Vec<IpAddr>,
}

impl Surroundings {
    /// What a config gives to its pods.
    #[must_use]
    pub fn new(config: &Config, node: NodeFacts) -> Self {
        let name =
            |m: &ingot_machine_config::v1::pod::Metadata| (m.namespace.clone(), m.name.clone());
        let maps = config.config_maps.iter().map(|map| (name(&map.metadata), map.bytes()));
        let secrets = config.secrets.iter().map(|s| (name(&s.metadata), s.expose()));
        let registries = config.secrets.iter().filter(|s| s.kind_of_data == DOCKER_CONFIG_TYPE);
        let registries = registries.filter_map(|secret| {
            Some((name(&secret.metadata), secret.expose().remove(DOCKER_CONFIG_KEY)?))
        });
        Self {
            node,
            config_maps: maps.collect(),
            secrets: secrets.collect(),
            registries: registries.collect(),
        }
    }

    /// The keys of a ConfigMap or Secret.
    pub(crate) fn keys(&self, kind: DataKind, namespace: &str, name: &str) -> Option<&Keys> {
        let all = match kind {
            DataKind::ConfigMap => &self.config_maps,
            DataKind::Secret => &self.secrets,
        };
        all.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The `config.json` of a registry client that a Secret holds.
    pub(crate) fn registry_config(&self, namespace: &str, name: &str) -> Option<&[u8]> {
        self.registries.get(&(namespace.to_owned(), name.to_owned())).map(Vec::as_slice)
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("node", &self.node).finish_non_exhaustive()
    }
}
