//! Where the repository is and how commands are run in it. Knows paths and processes, no command's logic.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

/// The root of the repository: where the workspace's `Cargo.toml` is.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// `target/` of the repository, or where cargo was told to put it; everything that is built goes there.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// A `cargo` command in the root of the repository, with the toolchain this program was started by.
pub(crate) fn cargo() -> Command {
    let mut command = ingot_image_builder::cargo::command();
    command.current_dir(root());
    command
}

/// Runs a command with its output going to ours; an error names the command and how it ended.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let words = describe(command);
    let status = command.status().with_context(|| format!("start `{words}`"))?;
    if !status.success() {
        bail!("`{words}` ended with {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output; an error carries its standard error.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let words = describe(command);
    let output = command.output().with_context(|| format!("start `{words}`"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{words}` ended with {}: {}", output.status, errors.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}
