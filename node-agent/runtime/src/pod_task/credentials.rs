//! Credentials for registries from a registry client's `config.json`, as Secrets hold it. Pure; nothing is logged.

use std::collections::BTreeMap;
use std::fmt;

use ingot_images::{Auth, Reference};
use serde::Deserialize;

/// The part of `config.json` that is used.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

/// Credentials for one registry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(hidden)")
    }
}

/// What `config` has for the registry of an image; several when it has paths of it, the longest first.
pub(super) fn of(config: &[u8], reference: &str) -> Vec<Auth> {
    let (Ok(file), Ok(reference)) =
        (serde_json::from_slice::<File>(config), Reference::parse(reference))
    else {
        return Vec::new();
    };
    let mut found: Vec<(usize, Auth)> = file
        .auths
        .into_iter()
        .filter(|(registry, _)| fits(registry, reference.host(), reference.repository()))
        .map(|(registry, entry)| {
            let auth = Auth {
                username: entry.username,
                password: entry.password,
                auth: entry.auth,
                identity_token: entry.identitytoken,
                registry_token: entry.registrytoken,
                server_address: String::new(),
            };
            (registry.len(), auth)
        })
        .collect();
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// Whether the key of an entry (`host`, `host/path`, `https://host/v1/`) is for that repository.
fn fits(registry: &str, host: &str, repository: &str) -> bool {
    let bare = registry.split_once("://").map_or(registry, |(_, rest)| rest);
    let (of, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_matches('/');
    // What old clients wrote behind the host is no repository.
    let anything = matches!(path, "" | "v1" | "v2");
    let below = repository.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    (of == host || of.strip_prefix("index.") == Some(host)) && (anything || below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_their_own_registry_only() {
        let config = br#"{"auths": {
            "registry.example.org": {"username": "all", "password": "p"},
            "https://registry.example.org/team/": {"auth": "dGVhbTpw"},
            "other.example.org:5000": {"username": "other"}
        }}"#;
        let names = |reference: &str| -> Vec<String> {
            of(config, reference).into_iter().map(|a| a.username + &a.auth).collect()
        };
        assert_eq!(names("registry.example.org/team/app:1"), ["dGVhbTpw", "all"]);
        assert_eq!(names("registry.example.org/teams/app:1"), ["all"]);
        assert_eq!(names("other.example.org:5000/a"), ["other"]);
        assert!(names("other.example.org/a").is_empty());
        assert!(of(b"no json", "registry.example.org/a").is_empty());
    }
}
