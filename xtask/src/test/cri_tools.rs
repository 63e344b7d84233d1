//! Gets critest and crictl, the Kubernetes project's own tests and client of container runtimes: their source comes through the Go
//! module proxy of this machine's configuration, and Go compiles it. They are used by tests only and are in no image that ships.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::go::{self, Version};
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
    let source = directory.join("source");
    go.source(MODULE, VERSION, &source)?;
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
