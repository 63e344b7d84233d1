//! Gets Helm, with which people install what runs in a cluster: its source comes through the Go module proxy of this machine's
//! configuration, and Go compiles it. It is used by tests only and is in no image.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::go::{self, Version};
use crate::workspace;

/// The module.
const MODULE: &str = "helm.sh/helm/v4";
/// The newest version that Go's module proxy has.
const VERSION: &str = "v4.3.1";
/// What its go.mod asks for.
const GO_NEEDED: Version = [1, 26, 0];

/// The program below `target/tools/helm`, compiled when it is not there yet. An error says why it cannot be had, and what would help.
pub(super) fn ensure() -> anyhow::Result<PathBuf> {
    let directory = workspace::target().join("tools/helm").join(VERSION);
    let program = directory.join("helm");
    if program.exists() {
        return Ok(program);
    }
    println!("compiling {MODULE} {VERSION}");
    let go = go::ensure(GO_NEEDED).context("find Go")?;
    let source = directory.join("source");
    go.source(MODULE, VERSION, &source)?;
    let partial = directory.join("partial");
    let mut command = go.command();
    command.current_dir(&source).args([
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        "-s -w",
    ]);
    command.arg("-o").arg(&partial).arg("./cmd/helm");
    workspace::run(&mut command)?;
    fs_err::rename(partial, &program)?;
    Ok(program)
}
