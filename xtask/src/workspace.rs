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

/// `target/` of the repository; everything that is built goes there.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// A `cargo` command in the root of the repository, with the toolchain this program was started by.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
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

/// The command line as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}
