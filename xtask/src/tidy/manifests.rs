//! Every crate takes the workspace's lints and settings, and is a member of the workspace.

use super::{Finding, Tree};

/// What each `[package]` inherits.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// Manifests that go their own way.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let members = members(tree);
    let mut findings = Vec::new();
    for (path, text) in tree.manifests() {
        let manifest: toml::Table = match toml::from_str(text) {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::file(path, error.message()));
                continue;
            }
        };
        let inherits = |table: &str, key: &str| -> Option<bool> {
            manifest.get(table)?.get(key)?.get("workspace")?.as_bool()
        };
        for key in INHERITED.iter().filter(|key| inherits("package", key) != Some(true)) {
            findings
                .push(Finding::file(path, format!("[package] must say `{key}.workspace = true`")));
        }
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if lints.and_then(toml::Value::as_bool) != Some(true) {
            findings.push(Finding::file(path, "must say `workspace = true` under [lints]"));
        }
        let directory = path.trim_end_matches("/Cargo.toml");
        if !members.iter().any(|member| member == directory) {
            findings.push(Finding::file(
                path,
                "is no member of the workspace; its lints are never run",
            ));
        }
    }
    findings
}

/// The directories of the workspace's members.
fn members(tree: &Tree) -> Vec<String> {
    let root: toml::Table =
        tree.text("Cargo.toml").and_then(|text| toml::from_str(text).ok()).unwrap_or_default();
    let members = root.get("workspace").and_then(|workspace| workspace.get("members"));
    let members = members.and_then(toml::Value::as_array).cloned().unwrap_or_default();
    members.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect()
}
