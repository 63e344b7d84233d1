//! Gets critest and crictl, the Kubernetes project's own tests and client of container runtimes: their source comes through the Go
//! module proxy of this machine's configuration, and Go compiles it. They are used by tests only and are in no image that ships.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::go::{self, Go, Version};
use crate::workspace;

/// The module. WHEN CHANGING: `research` of what its specs need is in `qemu-tests/src/suites/critest.rs`.
const MODULE: &str = "sigs.k8s.io/cri-tools";
/// The newest version of 1.36 that Go's module proxy has.
const VERSION: &str = "v1.36.0";
/// What its go.mod asks for.
const GO_NEEDED: Version = [1, 26, 0];

/// The two programs, static.
#[derive(Debug, Clone)]
pub(crate) struct CriTools {
    /// The conformance tests.
    pub(crate) critest: PathBuf,
    /// The command line.
    pub(crate) crictl: PathBuf,
}

/// The programs below `target/tools/cri-tools`, compiled when they are not there yet. An error says why they cannot be had, and
/// what would help.
pub(crate) fn ensure() -> anyhow::Result<CriTools> {
    let directory = workspace::target().join("tools/cri-tools").join(VERSION);
    let tools = CriTools { critest: directory.join("critest"), crictl: directory.join("crictl") };
    if tools.critest.exists() && tools.crictl.exists() {
        return Ok(tools);
    }
    println!("compiling {MODULE} {VERSION}");
    let go = go::ensure(GO_NEEDED).context("find Go")?;
    let source = source(&go, &directory.join("source")).with_context(|| {
        format!("get {MODULE} {VERSION}; GOPROXY must name a proxy that this machine can reach")
    })?;
    let partial = directory.join("partial");
    fs_err::create_dir_all(&partial)?;
    for (name, verb) in [("critest", &["test", "-c"][..]), ("crictl", &["build"][..])] {
        let mut command = go.command();
        command.current_dir(&source).args(verb);
        command.args(["-trimpath", "-buildvcs=false", "-ldflags"]);
        command.arg(format!("-s -w -X {MODULE}/pkg/version.Version={VERSION}"));
        command.arg("-o").arg(partial.join(name)).arg(format!("./cmd/{name}"));
        workspace::run(&mut command)?;
        fs_err::rename(partial.join(name), directory.join(name))?;
    }
    Ok(tools)
}

/// The module's source in `directory`: Go keeps what it downloads read-only, and compiles a module's own programs only where it
/// may write.
fn source(go: &Go, directory: &Path) -> anyhow::Result<PathBuf> {
    if directory.exists() {
        fs_err::remove_dir_all(directory)?;
    }
    fs_err::create_dir_all(directory)?;
    let mut command = go.command();
    command.current_dir(directory).args(["mod", "download", "-json"]);
    let text = workspace::output(command.arg(format!("{MODULE}@{VERSION}")))?;
    let answer: serde_json::Value = serde_json::from_str(&text).context("read Go's answer")?;
    let downloaded = answer["Dir"].as_str().context("Go names no folder")?;
    let mut copy = Command::new("cp");
    copy.args(["-R", "--no-preserve=mode"]).arg(format!("{downloaded}/.")).arg(directory);
    workspace::run(&mut copy)?;
    Ok(directory.to_owned())
}
