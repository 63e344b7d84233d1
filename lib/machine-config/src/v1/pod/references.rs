//! Which ConfigMaps and Secrets a pod speaks of, so that the loader can tell which are missing.

use super::{Pod, Volume};

/// Which kind of document holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataKind {
    /// `kind: ConfigMap`.
    ConfigMap,
    /// `kind: Secret`.
    Secret,
}

impl DataKind {
    /// The text of the field `kind`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// A ConfigMap or Secret that a pod needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Path of the name in the pod's document.
    pub path: String,
    /// Which of the two.
    pub kind: DataKind,
    /// Its name.
    pub name: String,
    /// Keys that have to be in it, each with its path in the pod's document.
    pub keys: Vec<(String, String)>,
}

impl Pod {
    /// Everything that has to be there for the pod to start; what is optional is left out.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        let lists =
            [("initContainers", &self.spec.init_containers), ("containers", &self.spec.containers)];
        for (list, containers) in lists {
            for (index, container) in containers.iter().enumerate() {
                let at = format!("spec.{list}[{index}]");
                for (index, from) in container.env_from.iter().enumerate() {
                    let at = format!("{at}.envFrom[{index}]");
                    for (field, kind, object) in [
                        ("configMapRef", DataKind::ConfigMap, &from.config_map_ref),
                        ("secretRef", DataKind::Secret, &from.secret_ref),
                    ] {
                        let Some(object) = object.as_ref().filter(|object| !object.optional) else {
                            continue;
                        };
                        found.push(reference(
                            format!("{at}.{field}.name"),
                            kind,
                            &object.name,
                            Vec::new(),
                        ));
                    }
                }
                for (index, variable) in container.env.iter().enumerate() {
                    let Some(from) = &variable.value_from else { continue };
                    let at = format!("{at}.env[{index}].valueFrom");
                    for (field, kind, key) in [
                        ("configMapKeyRef", DataKind::ConfigMap, &from.config_map_key_ref),
                        ("secretKeyRef", DataKind::Secret, &from.secret_key_ref),
                    ] {
                        let Some(key) = key.as_ref().filter(|key| !key.optional) else { continue };
                        let keys = vec![(key.key.clone(), format!("{at}.{field}.key"))];
                        found.push(reference(format!("{at}.{field}.name"), kind, &key.name, keys));
                    }
                }
            }
        }
        for (index, volume) in self.spec.volumes.iter().enumerate() {
            volume_references(&mut found, &format!("spec.volumes[{index}]"), volume);
        }
        for (index, secret) in self.spec.image_pull_secrets.iter().enumerate() {
            let path = format!("spec.imagePullSecrets[{index}].name");
            found.push(reference(path, DataKind::Secret, &secret.name, Vec::new()));
        }
        found
    }
}

fn volume_references(found: &mut Vec<Reference>, at: &str, volume: &Volume) {
    let keys = |at: &str, items: &[super::KeyToPath]| {
        items
            .iter()
            .enumerate()
            .map(|(i, item)| (item.key.clone(), format!("{at}.items[{i}].key")))
            .collect()
    };
    if let Some(map) = volume.config_map.as_ref().filter(|map| !map.optional) {
        let at = format!("{at}.configMap");
        found.push(reference(
            format!("{at}.name"),
            DataKind::ConfigMap,
            &map.name,
            keys(&at, &map.items),
        ));
    }
    if let Some(secret) = volume.secret.as_ref().filter(|secret| !secret.optional) {
        let at = format!("{at}.secret");
        let path = format!("{at}.secretName");
        found.push(reference(
            path,
            DataKind::Secret,
            &secret.secret_name,
            keys(&at, &secret.items),
        ));
    }
    for (index, source) in volume.projected.iter().flat_map(|p| &p.sources).enumerate() {
        let at = format!("{at}.projected.sources[{index}]");
        for (field, kind, object) in [
            ("configMap", DataKind::ConfigMap, &source.config_map),
            ("secret", DataKind::Secret, &source.secret),
        ] {
            let Some(object) = object.as_ref().filter(|object| !object.optional) else { continue };
            let at = format!("{at}.{field}");
            found.push(reference(
                format!("{at}.name"),
                kind,
                &object.name,
                keys(&at, &object.items),
            ));
        }
    }
}

fn reference(path: String, kind: DataKind, name: &str, keys: Vec<(String, String)>) -> Reference {
    Reference { path, kind, name: name.to_owned(), keys }
}
