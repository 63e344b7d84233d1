//! Everything an image depends on, as one digest: what makes "nothing changed" a fact and not a guess.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::build::{BuildOptions, VERSION};
use crate::digest;
use crate::kubernetes;
use crate::recipe::Recipe;
use crate::sbom::Crate;
use crate::tools::{Package, Tools};

/// The inputs of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Digest of all of them.
    pub digest: String,
    /// Commit of the checkout.
    pub revision: String,
    /// Sizes in bytes of our own programs.
    pub program_sizes: BTreeMap<String, u64>,
    /// Libraries compiled into them.
    pub crates: Vec<Crate>,
}

/// Reads everything.
///
/// # Errors
/// A file that cannot be read; a `cargo metadata` that fails.
pub fn collect(
    options: &BuildOptions,
    recipe: &Recipe,
    packages: &[Package],
    programs: &BTreeMap<String, PathBuf>,
    tools: &Tools,
) -> std::io::Result<Inputs> {
    let mut program_sizes = BTreeMap::new();
    let mut contents = BTreeMap::new();
    for (name, path) in programs {
        let (sha256, size) = digest::of_file(path)?;
        contents.insert(name.clone(), sha256);
        program_sizes.insert(name.clone(), size);
    }
    for file in recipe.files.iter().chain(&recipe.apparmor) {
        contents.insert(file.path.clone(), digest::of_file(&options.recipes().join(&file.from))?.0);
    }
    if let Some(built) = &options.kubernetes {
        let (sha256, size) = digest::of_file(&built.program)?;
        contents.insert(kubernetes::PROGRAM.to_owned(), sha256);
        program_sizes.insert(kubernetes::PROGRAM.to_owned(), size);
    }
    let revision = revision(&options.workspace);
    let crates = crates(&options.workspace, recipe)?;
    let libraries: Vec<String> =
        crates.iter().map(|one| format!("{} {}", one.name, one.version)).collect();
    let mut plain = recipe.clone();
    // Where extra files lie on this machine does not matter, only what is in them.
    for file in plain.files.iter_mut().chain(&mut plain.apparmor) {
        file.from = PathBuf::new();
    }
    let all = json!({
        "recipe": plain,
        "contents": contents,
        "packages": packages.iter().map(|package| &package.locked).collect::<Vec<_>>(),
        "tools": tools.versions(),
        "builder": builder(&options.workspace)?,
        "version": VERSION,
        "revision": revision,
        "crates": libraries,
        "kubernetes": options.kubernetes.as_ref().map(|built| &built.about),
    });
    Ok(Inputs {
        digest: digest::of_bytes(all.to_string().as_bytes()),
        revision,
        program_sizes,
        crates,
    })
}

/// Commit of the checkout, `+changes` when tracked files differ from it; `unknown` without git.
fn revision(workspace: &Path) -> String {
    let git = |arguments: &[&str]| {
        let result = Command::new("git")
            .arg("-C")
            .arg(workspace)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        result.status.success().then(|| String::from_utf8_lossy(&result.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
    if changed { format!("{commit}+changes") } else { commit }
}

/// Digest of the builder's own sources: another builder may build other bytes.
fn builder(workspace: &Path) -> std::io::Result<String> {
    let mut left = vec![
        workspace.join("image-builder/src"),
        workspace.join("lib/machine-config/src/layout.rs"),
    ];
    let mut parts = BTreeMap::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            for entry in fs_err::read_dir(&path)? {
                left.push(entry?.path());
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(workspace).unwrap_or(&path).to_string_lossy().into_owned();
            parts.insert(name, digest::of_file(&path)?.0);
        }
    }
    Ok(digest::of_bytes(json!(parts).to_string().as_bytes()))
}

/// Libraries from a registry that are compiled into the programs of a recipe, from `cargo metadata`.
fn crates(workspace: &Path, recipe: &Recipe) -> std::io::Result<Vec<Crate>> {
    let result = crate::cargo::command()
        .current_dir(workspace)
        .args([
            "metadata",
            "--format-version=1",
            // Not offline: on a fresh machine, the build before this one has fetched only what it compiled.
            "--locked",
            "--filter-platform",
            crate::binaries::TARGET,
        ])
        .stdin(Stdio::null())
        .output()?;
    if !result.status.success() {
        let message = String::from_utf8_lossy(&result.stderr).trim().to_owned();
        return Err(std::io::Error::other(format!("cargo metadata failed: {message}")));
    }
    let metadata: Value = serde_json::from_slice(&result.stdout)?;
    let own: BTreeSet<&str> = recipe
        .binaries
        .iter()
        .map(|binary| binary.package.as_str())
        .chain(recipe.images.iter().map(|image| image.package.as_str()))
        .collect();
    Ok(linked(&metadata, &own))
}

/// Walks the resolved graph from `own` along normal dependencies.
fn linked(metadata: &Value, own: &BTreeSet<&str>) -> Vec<Crate> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .filter_map(|package| Some((package["id"].as_str()?.to_owned(), package)))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .filter_map(|node| Some((node["id"].as_str()?.to_owned(), node)))
        .collect();
    let is_own = |package: &Value| package["name"].as_str().is_some_and(|name| own.contains(name));
    let mut left: Vec<String> =
        packages.iter().filter(|(_, package)| is_own(package)).map(|(id, _)| id.clone()).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = left.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        for dependency in nodes.get(&id).map(|node| list(&node["deps"])).unwrap_or_default() {
            let normal = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            if let Some(target) = dependency["pkg"].as_str().filter(|_| normal) {
                left.push(target.to_owned());
            }
        }
    }
    let mut crates: Vec<Crate> = seen
        .iter()
        .filter_map(|id| packages.get(id))
        .filter(|package| !package["source"].is_null())
        .map(|package| Crate {
            name: package["name"].as_str().unwrap_or_default().to_owned(),
            version: package["version"].as_str().unwrap_or_default().to_owned(),
            license: package["license"].as_str().map(str::to_owned),
        })
        .collect();
    crates.sort();
    crates
}
