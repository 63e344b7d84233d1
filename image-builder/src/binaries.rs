//! Compiles the node's programs the way they go into an image: static, stripped, and equal from any directory.
//!
//! They have a target directory of their own, `target/node`, so that the flags below never make cargo rebuild a
//! developer's tree, and a running `cargo` never makes an image build wait.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build::BuildOptions;
use crate::progress::Progress;
use crate::recipe::Recipe;

/// What everything of the node is compiled for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BinariesError {
    /// Cargo could not be run.
    #[error("cannot run cargo")]
    Run {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The programs did not compile.
    #[error("cargo could not compile the node's programs:\n{message}")]
    Failed {
        /// The end of what cargo said.
        message: String,
    },
    /// A program is not where it should be.
    #[error("there is no program {path}; check the names in the image recipe")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
}

/// The programs of a recipe by binary name, compiled from the workspace into `node` of the target directory, or into
/// `quick`, with the Cargo profile of that name.
///
/// # Errors
/// [`BinariesError`].
pub fn build(
    options: &BuildOptions,
    recipe: &Recipe,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, PathBuf>, BinariesError> {
    let run = |source| BinariesError::Run { source };
    let wanted = wanted(recipe);
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    progress.step("compiling the node's programs");
    let workspace = fs_err::canonicalize(&options.workspace).map_err(run)?;
    let (profile, folder) = if options.quick { ("quick", "quick") } else { ("release", "node") };
    fs_err::create_dir_all(options.target_dir.join(folder)).map_err(run)?;
    let target = fs_err::canonicalize(options.target_dir.join(folder)).map_err(run)?;
    let mut command = cargo(&workspace, &target, profile);
    for (package, name) in wanted {
        command.arg("--package").arg(package).arg("--bin").arg(name);
    }
    let message = watch(command, progress).map_err(run)?;
    if let Some(message) = message {
        return Err(BinariesError::Failed { message });
    }
    find(&target.join(TARGET).join(profile), recipe)
}

/// The programs of a recipe by binary name, as finished files of one directory.
///
/// # Errors
/// [`BinariesError::Missing`].
pub fn find(directory: &Path, recipe: &Recipe) -> Result<BTreeMap<String, PathBuf>, BinariesError> {
    let mut found = BTreeMap::new();
    for (_, name) in wanted(recipe) {
        let path = directory.join(name);
        if !path.exists() {
            return Err(BinariesError::Missing { path });
        }
        found.insert(name.to_owned(), path);
    }
    Ok(found)
}

/// Cargo package and binary of every program a recipe names.
fn wanted(recipe: &Recipe) -> BTreeSet<(&str, &str)> {
    let own = recipe.binaries.iter().map(|one| (one.package.as_str(), one.name.as_str()));
    own.chain(recipe.images.iter().map(|one| (one.package.as_str(), one.name.as_str()))).collect()
}

/// What the linker does for the size of a program that ships: the addresses to adjust at start as a bitmap (static glibc
/// adjusts them since 2.36), and no tables for unwinding, which a program that aborts on a panic cannot use. Relative to the
/// workspace, where cargo runs the linker, so that no path of this machine becomes an input.
const SMALLER: [&str; 2] =
    ["-Clink-arg=-Wl,-z,pack-relative-relocs", "-Clink-arg=-Wl,-T,image-builder/src/no-unwind.ld"];

fn cargo(workspace: &Path, target: &Path, profile: &str) -> Command {
    let mut command = crate::cargo::command();
    command.current_dir(workspace).args(["build", "--profile", profile, "--target", TARGET]);
    command.arg("--target-dir").arg(target);
    // Joined with the flags of `.cargo/config.toml`. No path of this machine may end in a program: neither for the
    // comparison of builds nor for the people who read its panics. The last matching prefix wins.
    let mut flags = vec![remap(workspace, "/ingot"), remap(target, "/target")];
    if let Some(home) = cargo_home() {
        flags.push(remap(&home, "/cargo"));
    }
    if profile == "release" {
        flags.extend(SMALLER.map(str::to_owned));
    }
    let list: Vec<String> = flags.iter().map(|flag| format!("{flag:?}")).collect();
    command.arg("--config").arg(format!("target.{TARGET}.rustflags=[{}]", list.join(",")));
    // Flags from outside would replace the ones above.
    for variable in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"]
    {
        command.env_remove(variable);
    }
    command.env("SOURCE_DATE_EPOCH", "0").env_remove("CARGO_INCREMENTAL");
    command
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

fn cargo_home() -> Option<PathBuf> {
    let from_environment = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    from_environment.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// Runs cargo, shows its lines as details, and gives its last lines if it failed.
fn watch(mut command: Command, progress: &dyn Progress) -> std::io::Result<Option<String>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut last = Vec::new();
    let mut compiled = 0_usize;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(what) = line.trim_start().strip_prefix("Compiling ") {
                compiled += 1;
                progress.detail(&format!("compiling, crate {compiled}: {what}"));
            }
            last.push(line);
            if last.len() > 80 {
                last.remove(0);
            }
        }
    }
    let status = child.wait()?;
    Ok((!status.success()).then(|| last.join("\n")))
}
