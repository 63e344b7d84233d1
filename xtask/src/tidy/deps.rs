//! Who may depend on whom inside the workspace, as one table, and the few outside crates that may not go everywhere.
//! A library never depends on a program.

use super::{Finding, Tree};

/// Package and the workspace packages it may use, tests included. A package that is not here may use none, so a new
/// crate begins with a line here.
const ALLOWED: &[(&str, &[&str])] = &[
    ("ingot-api", &[]),
    ("ingot-images", &["ingot-linux", "ingot-names"]),
    ("ingot-init-api", &[]),
    ("ingot-linux", &[]),
    ("ingot-machine-config", &[]),
    ("ingot-names", &[]),
    ("ingot-pki", &[]),
    ("ingot-runc-api", &[]),
    ("ingot-init", &["ingot-init-api", "ingot-linux"]),
    ("ingot-runc", &["ingot-linux", "ingot-runc-api"]),
    (
        "ingot-runtime",
        &[
            "ingot-images",
            "ingot-init-api",
            "ingot-linux",
            "ingot-machine-config",
            "ingot-runc-api",
        ],
    ),
    ("ingot-cri", &["ingot-images", "ingot-runtime", "ingot-streaming"]),
    (
        "ingot-node-agent",
        &[
            "ingot-api",
            "ingot-cri",
            "ingot-images",
            "ingot-init-api",
            "ingot-linux",
            "ingot-machine-config",
            "ingot-names",
            "ingot-pki",
            "ingot-runtime",
            "ingot-streaming",
        ],
    ),
    ("ingot-ctl", &["ingot-api", "ingot-machine-config", "ingot-names", "ingot-pki"]),
    ("ingot-image-builder", &["ingot-machine-config"]),
    ("ingot-qemu-tests", &["ingot-api", "ingot-machine-config", "ingot-pki"]),
    ("ingot-probe", &["ingot-api"]),
    ("ingot-workload", &["ingot-linux"]),
    (
        "xtask",
        &[
            "ingot-api",
            "ingot-image-builder",
            "ingot-machine-config",
            "ingot-pki",
            "ingot-qemu-tests",
        ],
    ),
];

/// Outside crate (or the beginning of its name, with `*`), the packages that may use it, and why no other may.
const FENCED: &[(&str, &[&str], &str)] = &[
    (
        "libcontainer",
        &["ingot-runc"],
        "it forks and changes its process; never link it into the agent",
    ),
    ("libcgroups", &["ingot-runc"], "cgroups are lib/linux's"),
    (
        "tonic*",
        &[
            "ingot-api",
            "ingot-cri",
            "ingot-node-agent",
            "ingot-ctl",
            "ingot-qemu-tests",
            "ingot-probe",
            "xtask",
        ],
        "only the ends of the two APIs know protobuf",
    ),
    (
        "prost*",
        &[
            "ingot-api",
            "ingot-cri",
            "ingot-node-agent",
            "ingot-ctl",
            "ingot-qemu-tests",
            "ingot-probe",
            "xtask",
        ],
        "only the ends of the two APIs know protobuf",
    ),
    (
        "tokio*",
        &[
            "ingot-cri",
            "ingot-images",
            "ingot-node-agent",
            "ingot-runtime",
            "ingot-streaming",
            "ingot-ctl",
            "ingot-qemu-tests",
            "ingot-probe",
            "xtask",
        ],
        "PID 1, the helper, the libraries and the image builder have no async runtime",
    ),
    (
        "rustls*",
        &[
            "ingot-api",
            "ingot-images",
            "ingot-node-agent",
            "ingot-runtime",
            "ingot-ctl",
            "ingot-pki",
            "ingot-qemu-tests",
            "ingot-probe",
            "xtask",
        ],
        "only the two ends of the API, the registry client and the probes of pods speak TLS",
    ),
    (
        "anyhow",
        &[
            "ingot-node-agent",
            "ingot-runc",
            "ingot-ctl",
            "ingot-image-builder",
            "ingot-qemu-tests",
            "ingot-probe",
            "ingot-workload",
            "xtask",
            "ingot-init",
        ],
        "libraries have one error variant per operation",
    ),
];

/// All that the package of PID 1 may use besides the workspace's own crates. sha2 and thiserror are the initrd's.
const PID1_DEPENDENCIES: &[&str] = &["rustix", "libc", "sha2", "thiserror"];

/// Dependencies that the tables do not allow.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.manifests() {
        // A manifest that does not parse is a finding of `manifests`.
        let Ok(manifest) = toml::from_str::<toml::Table>(text) else { continue };
        let package = manifest.get("package").and_then(|package| package.get("name"));
        let package = package.and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        for (kind, dependency) in dependencies(&manifest) {
            if let Some(why) = refusal(&package, kind, &dependency) {
                findings.push(Finding::file(
                    path,
                    format!("{package} may not use {dependency}: {why}"),
                ));
            }
        }
    }
    findings
}

/// Names of all dependencies, with the table each is in, those under `[target]` included.
fn dependencies(manifest: &toml::Table) -> Vec<(&'static str, String)> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let targets =
        targets.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
    let mut found = Vec::new();
    for table in std::iter::once(manifest).chain(targets) {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let names = table.get(kind).and_then(toml::Value::as_table);
            found.extend(
                names.into_iter().flat_map(toml::Table::keys).map(|name| (kind, name.clone())),
            );
        }
    }
    found
}

/// Why a package may not have a dependency, if so.
fn refusal(package: &str, kind: &str, dependency: &str) -> Option<String> {
    if dependency.starts_with("ingot-") {
        let row = ALLOWED.iter().find(|(name, _)| *name == package);
        let allowed = row.is_some_and(|(_, allowed)| allowed.contains(&dependency));
        return (!allowed).then(|| "not in the table of allowed dependencies".to_owned());
    }
    if kind != "dependencies" {
        return None;
    }
    if package == "ingot-init" && !PID1_DEPENDENCIES.contains(&dependency) {
        return Some("PID 1 links one system call crate and next to nothing else".to_owned());
    }
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => dependency.starts_with(prefix),
        None => dependency == pattern,
    };
    let (_, _, why) =
        FENCED.iter().find(|(pattern, users, _)| matches(pattern) && !users.contains(&package))?;
    Some((*why).to_owned())
}
