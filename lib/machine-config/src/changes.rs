//! What differs between two configs, as lines for people.

use crate::{Config, ConfigMap, Pod, SecretData};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most lines; who changes more reads the config itself.
const MAX_LINES: usize = 200;

/// Longest value that is shown, in characters.
const MAX_VALUE: usize = 60;

/// What changes from one config to the next, a line for each field, in a fixed order. Secrets are not shown.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    compare(&mut lines, "", &machine(old), &machine(new));
    if secrets(old) != secrets(new) {
        lines.push("secrets of the machine: changed".to_owned());
    }
    documents(
        &mut lines,
        "pod",
        &flat_by_name(&old.pods, Pod::full_name),
        &flat_by_name(&new.pods, Pod::full_name),
    );
    let maps = |config: &Config| flat_by_name(&config.config_maps, ConfigMap::full_name);
    documents(&mut lines, "config map", &maps(old), &maps(new));
    secret_documents(&mut lines, &old.secrets, &new.secrets);
    let more = lines.len().saturating_sub(MAX_LINES);
    if more > 0 {
        lines.truncate(MAX_LINES);
        lines.push(format!("and {more} more changes"));
    }
    lines
}

/// The machine document, flat, without secrets.
fn machine(config: &Config) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    if let Some((_, value)) = config.redacted_values().first() {
        flatten(&mut flat, "", value);
    }
    flat
}

/// Only ever compared.
fn secrets(config: &Config) -> Vec<Option<&crate::Secret>> {
    let api = &config.machine.api;
    let registries = &config.machine.registries;
    let mut all = vec![
        api.ca.as_ref().and_then(|ca| ca.key.as_ref()),
        api.certificate.as_ref().map(|certificate| &certificate.key),
        registries.proxy.as_ref(),
        config.machine.kubernetes.as_ref().and_then(|kubernetes| kubernetes.join_token.as_ref()),
    ];
    for host in &registries.hosts {
        all.extend([host.password.as_ref(), host.identity_token.as_ref()]);
    }
    all
}

/// Fields of each document, flat, by name.
type FlatByName = BTreeMap<String, BTreeMap<String, String>>;

fn flat_by_name<T: serde::Serialize>(documents: &[T], name: fn(&T) -> String) -> FlatByName {
    let one = |document: &T| {
        let mut flat = BTreeMap::new();
        flatten(&mut flat, "", &serde_json::to_value(document).unwrap_or_default());
        (name(document), flat)
    };
    documents.iter().map(one).collect()
}

fn documents(lines: &mut Vec<String>, kind: &str, old: &FlatByName, new: &FlatByName) {
    for (name, fields) in new {
        match old.get(name) {
            None => lines.push(format!("{kind} {name}: added")),
            Some(before) => compare(lines, &format!("{kind} {name}: "), before, fields),
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        lines.push(format!("{kind} {name}: removed"));
    }
}

/// Of a secret, only that it changed, and which keys it has.
fn secret_documents(lines: &mut Vec<String>, old: &[SecretData], new: &[SecretData]) {
    let by_name = |secrets: &[SecretData]| -> BTreeMap<String, SecretData> {
        secrets.iter().map(|secret| (secret.full_name(), secret.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    for (name, secret) in &new {
        match old.get(name) {
            None => lines.push(format!("secret {name}: added")),
            Some(before) if before != secret => lines.push(format!("secret {name}: changed")),
            Some(_) => {}
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        lines.push(format!("secret {name}: removed"));
    }
}

fn compare(
    lines: &mut Vec<String>,
    prefix: &str,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) {
    let mut paths: Vec<_> = old.keys().chain(new.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        match (old.get(path), new.get(path)) {
            (Some(before), Some(after)) if before != after => {
                lines.push(format!("{prefix}{path}: {} -> {}", clip(before), clip(after)));
            }
            (None, Some(after)) => lines.push(format!("{prefix}{path}: set to {}", clip(after))),
            (Some(before), None) => {
                lines.push(format!("{prefix}{path}: no longer {}", clip(before)))
            }
            _ => {}
        }
    }
}

fn flatten(flat: &mut BTreeMap<String, String>, path: &str, value: &Value) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, child) in fields {
                flatten(flat, &crate::validate::join(path, name), child);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                flatten(flat, &format!("{path}[{index}]"), item);
            }
        }
        scalar => {
            flat.insert(path.to_owned(), scalar.to_string());
        }
    }
}

fn clip(value: &str) -> String {
    let mut shown: String = value.chars().take(MAX_VALUE).collect();
    if value.chars().nth(MAX_VALUE).is_some() {
        shown.push_str("...");
    }
    shown
}
