//! ConfigMaps and Secrets, and what pods want of them.

use super::Finding;
use crate::secret::REDACTED;
use crate::v1::data::{ConfigMap, DOCKER_CONFIG_KEY, DOCKER_CONFIG_TYPE, SecretData};
use crate::v1::pod::{DataKind, Pod};
use crate::validate::similar;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Keys of a document, and whether it holds credentials for registries.
type Known = BTreeMap<(DataKind, String), (BTreeSet<String>, bool)>;

/// Rules within one ConfigMap.
pub(crate) fn config_map(map: &ConfigMap) -> Vec<Finding> {
    let twice = map.binary_data.keys().filter(|key| map.data.contains_key(*key));
    twice
        .map(|key| {
            let path = crate::validate::join("binaryData", key);
            Finding::new(path, format!("\"{key}\" is in \"data\", too"), "remove one of the two")
        })
        .collect()
}

/// Rules within one Secret.
pub(crate) fn secret(secret: &SecretData) -> Vec<Finding> {
    if secret.kind_of_data != DOCKER_CONFIG_TYPE {
        return Vec::new();
    }
    let hidden =
        |value: Option<&crate::Secret>| value.is_some_and(|value| value.expose() == REDACTED);
    if hidden(secret.data.get(DOCKER_CONFIG_KEY))
        || hidden(secret.string_data.get(DOCKER_CONFIG_KEY))
    {
        return Vec::new();
    }
    let json = secret.expose().get(DOCKER_CONFIG_KEY).cloned().unwrap_or_default();
    let sound = serde_json::from_slice::<serde_json::Value>(&json)
        .is_ok_and(|value| value.get("auths").is_some_and(serde_json::Value::is_object));
    if sound {
        return Vec::new();
    }
    let message =
        format!("has no \"{DOCKER_CONFIG_KEY}\" with a JSON map \"auths\", as its type says");
    vec![Finding::new(
        "type",
        message,
        "write the config.json that a registry client made, or another type",
    )]
}

/// Rules between them; each finding with the document it is about.
pub(crate) fn data(
    maps: &[(u32, ConfigMap)],
    secrets: &[(u32, SecretData)],
) -> Vec<(u32, Finding)> {
    let mut names = HashMap::new();
    let maps = maps.iter().map(|(document, map)| (*document, DataKind::ConfigMap, map.full_name()));
    let secrets =
        secrets.iter().map(|(document, secret)| (*document, DataKind::Secret, secret.full_name()));
    let mut findings = Vec::new();
    for (document, kind, name) in maps.chain(secrets) {
        if names.insert((kind, name.clone()), document).is_some() {
            let message = format!("a {} named \"{name}\" is already in the config", kind.name());
            findings.push((
                document,
                Finding::new("metadata.name", message, "give it another name or namespace"),
            ));
        }
    }
    findings
}

/// What pods want and nobody gives.
pub(crate) fn references(
    pods: &[(u32, Pod)],
    maps: &[(u32, ConfigMap)],
    secrets: &[(u32, SecretData)],
) -> Vec<(u32, Finding)> {
    let mut known = Known::new();
    for (_, map) in maps {
        let keys = map.data.keys().chain(map.binary_data.keys()).cloned().collect();
        known.insert((DataKind::ConfigMap, map.full_name()), (keys, false));
    }
    for (_, secret) in secrets {
        let keys = secret.data.keys().chain(secret.string_data.keys()).cloned().collect();
        let registry = secret.kind_of_data == DOCKER_CONFIG_TYPE;
        known.insert((DataKind::Secret, secret.full_name()), (keys, registry));
    }
    let mut findings = Vec::new();
    for (document, pod) in pods {
        let namespace = &pod.metadata.namespace;
        for reference in pod.references() {
            let (kind, name) = (reference.kind.name(), &reference.name);
            let full = format!("{namespace}/{name}");
            let Some((keys, registry)) = known.get(&(reference.kind, full.clone())) else {
                let of_kind = known.keys().filter(|(other, _)| *other == reference.kind);
                let hint = match similar(&full, of_kind.map(|(_, name)| name.as_str())) {
                    Some(other) => format!("did you mean \"{other}\"?"),
                    None => format!("add a \"kind: {kind}\" document, or write \"optional: true\""),
                };
                let message = format!("the config has no {kind} \"{full}\"");
                findings.push((*document, Finding::new(reference.path, message, hint)));
                continue;
            };
            if reference.path.starts_with("spec.imagePullSecrets") && !registry {
                let message = format!("the Secret \"{full}\" holds no credentials for registries");
                let hint = format!("give it \"type: {DOCKER_CONFIG_TYPE}\"");
                findings.push((*document, Finding::new(reference.path.as_str(), message, hint)));
            }
            for (key, path) in reference.keys.iter().filter(|(key, _)| !keys.contains(key)) {
                let hint = match similar(key, keys.iter().map(String::as_str)) {
                    Some(other) => format!("did you mean \"{other}\"?"),
                    None => "add it there, or write \"optional: true\"".to_owned(),
                };
                let message = format!("the {kind} \"{full}\" has no key \"{key}\"");
                findings.push((*document, Finding::new(path.as_str(), message, hint)));
            }
        }
    }
    findings
}
