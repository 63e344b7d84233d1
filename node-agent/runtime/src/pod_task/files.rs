//! Volumes made of files that the config gives: what is in them (pure), and writing them so that a reader sees either all
//! old files or all new ones.
//!
//! It writes only below the pod's folder on the tmpfs of /run, where nothing but the agent may write: containers get these
//! volumes without writes.

mod write;

pub(super) use write::{Owner, WriteError, write};

use std::collections::BTreeMap;

use ingot_machine_config::v1::pod::{DataKind, DownwardFile, FileMode, KeyToPath, Volume};

use super::environment::{Missing, Sources};

/// Kubernetes' mode of files that give none.
const DEFAULT_MODE: FileMode = FileMode(0o644);

/// Files by path.
pub(super) type Files = BTreeMap<String, File>;

/// A file of a volume.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// The files of a volume; `None` when it is of another kind.
pub(super) fn of(volume: &Volume, sources: &Sources<'_>) -> Result<Option<Files>, Missing> {
    let mut files = Files::new();
    if let Some(map) = &volume.config_map {
        let mode = map.default_mode.unwrap_or(DEFAULT_MODE);
        let keys = (DataKind::ConfigMap, map.name.as_str(), map.items.as_slice(), map.optional);
        add_keys(&mut files, sources, keys, mode)?;
    } else if let Some(secret) = &volume.secret {
        let mode = secret.default_mode.unwrap_or(DEFAULT_MODE);
        let (name, items) = (secret.secret_name.as_str(), secret.items.as_slice());
        add_keys(&mut files, sources, (DataKind::Secret, name, items, secret.optional), mode)?;
    } else if let Some(downward) = &volume.downward_api {
        let mode = downward.default_mode.unwrap_or(DEFAULT_MODE);
        add_facts(&mut files, sources, &downward.items, mode)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in &projected.sources {
            let map = source.config_map.as_ref().map(|o| (DataKind::ConfigMap, o));
            let secret = source.secret.as_ref().map(|o| (DataKind::Secret, o));
            for (kind, object) in map.into_iter().chain(secret) {
                let keys = (kind, object.name.as_str(), object.items.as_slice(), object.optional);
                add_keys(&mut files, sources, keys, mode)?;
            }
            if let Some(downward) = &source.downward_api {
                add_facts(&mut files, sources, &downward.items, mode)?;
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

/// Kind and name of a document, the keys that are wanted of it, and whether they may be absent.
type Wanted<'a> = (DataKind, &'a str, &'a [KeyToPath], bool);

fn add_keys(
    files: &mut Files,
    sources: &Sources<'_>,
    (kind, name, items, optional): Wanted<'_>,
    mode: FileMode,
) -> Result<(), Missing> {
    let Some(keys) = sources.keys(kind, name, optional)? else { return Ok(()) };
    if items.is_empty() {
        for (key, bytes) in keys {
            files.insert(key.clone(), File { bytes: bytes.clone(), mode: mode.0 });
        }
        return Ok(());
    }
    for item in items {
        let Some(bytes) = keys.get(&item.key) else {
            if optional {
                continue;
            }
            return Err(Missing::Key { kind, name: name.to_owned(), key: item.key.clone() });
        };
        let mode = item.mode.unwrap_or(mode).0;
        files.insert(normal(&item.path), File { bytes: bytes.clone(), mode });
    }
    Ok(())
}

fn add_facts(
    files: &mut Files,
    sources: &Sources<'_>,
    items: &[DownwardFile],
    mode: FileMode,
) -> Result<(), Missing> {
    let nobody = ingot_machine_config::v1::pod::Container::default();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => sources.field(reference)?,
            (None, Some(reference)) => sources.resource(reference, &nobody)?,
            (None, None) => continue,
        };
        let mode = item.mode.unwrap_or(mode).0;
        files.insert(normal(&item.path), File { bytes: text.into_bytes(), mode });
    }
    Ok(())
}

/// Without empty parts and dots; the config check has refused what leads up.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
