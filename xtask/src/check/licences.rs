//! Licences, sources and banned crates, as `deny.toml` says. Uses cargo-deny where it is installed; otherwise judges the
//! output of `cargo metadata` by the same file, so that no check needs a download.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::workspace;

/// The part of `deny.toml` that both checkers read.
#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
    #[serde(default)]
    clarify: Vec<Clarification>,
}

/// The licence of a crate that does not name it; somebody has read the text.
#[derive(Debug, Deserialize)]
struct Clarification {
    #[serde(rename = "crate")]
    name: String,
    expression: String,
}

/// A licence that one crate may have and no other.
#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// The part of `cargo metadata` that is judged.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None for a crate of the workspace.
    source: Option<String>,
}

/// Checks the dependencies of the workspace.
pub(super) fn check() -> anyhow::Result<()> {
    if cargo_deny_is_installed() {
        return workspace::run(workspace::cargo().args([
            "deny",
            "--workspace",
            "check",
            "licenses",
            "bans",
            "sources",
        ]));
    }
    let text = fs_err::read_to_string(workspace::root().join("deny.toml"))?;
    let policy: Policy = toml::from_str(&text).context("read deny.toml")?;
    let mut command = workspace::cargo();
    command.args(["metadata", "--format-version", "1", "--locked"]).stderr(Stdio::inherit());
    let output = command.output().context("start `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` ended with {}", output.status);
    }
    let metadata =
        serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")?;
    let problems = problems(&policy, &metadata);
    for problem in &problems {
        println!("  {problem}");
    }
    match problems.len() {
        0 => Ok(()),
        count => bail!("{count} dependencies that deny.toml refuses"),
    }
}

fn cargo_deny_is_installed() -> bool {
    let mut command = Command::new("cargo-deny");
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Everything the policy refuses, in the order of the packages.
pub(super) fn problems(policy: &Policy, metadata: &Metadata) -> Vec<String> {
    let exceptions: BTreeMap<&str, &[String]> = policy
        .licenses
        .exceptions
        .iter()
        .map(|exception| (exception.name.as_str(), exception.allow.as_slice()))
        .collect();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        let extra = exceptions.get(package.name.as_str()).copied().unwrap_or_default();
        let clarified = policy.licenses.clarify.iter().find(|entry| entry.name == package.name);
        let licence = package.license.as_ref().or(clarified.map(|entry| &entry.expression));
        if let Some(problem) = licence_problem(licence, &policy.licenses.allow, extra) {
            problems.push(format!("{name}: {problem}"));
        }
        if let Some(ban) = policy.bans.deny.iter().find(|ban| ban.name == package.name) {
            problems.push(format!("{name}: banned: {}", ban.reason));
        }
        let registry = |source: &String| {
            policy.sources.allow_registry.iter().any(|url| source == &format!("registry+{url}"))
        };
        if let Some(source) = package.source.as_ref().filter(|source| !registry(source)) {
            problems.push(format!("{name}: comes from {source}"));
        }
    }
    problems
}

/// Why a licence is not allowed, if so.
fn licence_problem(licence: Option<&String>, allow: &[String], extra: &[String]) -> Option<String> {
    let Some(text) = licence else { return Some("declares no licence".to_owned()) };
    let expression = match spdx::Expression::parse_mode(text, spdx::ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => {
            return Some(format!("licence `{text}` is no SPDX expression: {}", error.reason));
        }
    };
    let allowed = expression.evaluate(|requirement| {
        let licence = requirement.to_string();
        allow.iter().chain(extra).any(|allowed| *allowed == licence)
    });
    (!allowed).then(|| format!("licence `{text}` is not in the list"))
}
