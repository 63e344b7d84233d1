//! A private apt root: Debian packages of one suite, downloaded and checked by apt without touching the machine.
//!
//! Its own lists, cache and (empty) package status live below one directory; the mirror, its proxy settings and its
//! keyring come from the machine's own apt configuration. Nothing is installed and no maintainer script runs. It must
//! not be used to change the machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ToolsError;
use super::mirror;
use crate::progress::Progress;

/// The Debian release everything is taken from.
pub(crate) const SUITE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What the archive says about one version of one package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    pub(crate) sha256: String,
    pub(crate) depends: String,
}

/// The private apt root below `dir`.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Prepares the directories and the source entry. No network yet.
    pub(crate) fn new(dir: PathBuf) -> Result<Self, ToolsError> {
        let io = |source| ToolsError::Prepare { source };
        for part in
            ["lists/partial", "cache/archives/partial", "none/partial", "etc/preferences.d", "dpkg"]
        {
            fs_err::create_dir_all(dir.join(part)).map_err(io)?;
        }
        fs_err::write(dir.join("dpkg/status"), "").map_err(io)?;
        let entries = mirror::entries(Path::new("/etc/apt"));
        let entry = mirror::choose(&entries).ok_or(ToolsError::NoMirror)?;
        let keyring = entry
            .signed_by
            .clone()
            .filter(|path| path.exists())
            .unwrap_or_else(|| PathBuf::from(KEYRING));
        let signed = if keyring.exists() {
            format!("[signed-by={}] ", keyring.display())
        } else {
            String::new()
        };
        fs_err::write(
            dir.join("etc/sources.list"),
            format!("deb {signed}{} {SUITE} main\n", entry.uri),
        )
        .map_err(io)?;
        Ok(Self { dir })
    }

    /// Where downloaded packages of a resolved closure lie.
    fn archives(&self) -> PathBuf {
        self.dir.join("cache/archives")
    }

    /// Fetches the package index of the suite. Signatures are checked by apt.
    pub(crate) fn update(&self, progress: &dyn Progress) -> Result<(), ToolsError> {
        progress.step(&format!(
            "reading the package index of Debian {SUITE} from this machine's mirror"
        ));
        let mut command = self.command("apt-get");
        command.args(["update", "-q=1"]);
        stream(command, "apt-get update", &mut |_| {})
    }

    /// True once an index was fetched.
    pub(crate) fn has_index(&self) -> bool {
        let lists = std::fs::read_dir(self.dir.join("lists"));
        lists.is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
            })
        })
    }

    /// Downloads `names` and everything they depend on (nothing that is only recommended), and gives the files.
    pub(crate) fn closure(
        &self,
        names: &[&str],
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, ToolsError> {
        let mut list = self.command("apt-get");
        list.args(["--print-uris", "-y", "-qq", "install"]).args(names);
        // An empty cache, so that packages that are here already are listed too.
        list.arg("-o").arg(format!("Dir::Cache::archives={}", self.dir.join("none").display()));
        let text = output(list, "apt-get --print-uris install")?;
        let files = uri_files(&text);
        let total: u64 = files.iter().map(|(_, size)| size).sum();
        progress.step(&format!("downloading {} packages, {} MiB", files.len(), total >> 20));
        let mut download = self.command("apt-get");
        download.args(["--download-only", "-y", "-q=1", "install"]).args(names);
        let mut done = 0_usize;
        stream(download, "apt-get --download-only install", &mut |line| {
            if line.starts_with("Get:") {
                done += 1;
                progress.detail(&format!("{done} of {}: {line}", files.len()));
            }
        })?;
        Ok(files.iter().map(|(name, _)| self.archives().join(name)).collect())
    }

    /// What the index knows about `names`: every version it has, newest first.
    pub(crate) fn show(
        &self,
        names: &[&str],
    ) -> Result<BTreeMap<String, Vec<Candidate>>, ToolsError> {
        let mut command = self.command("apt-cache");
        command.args(["show", "--all-versions"]).args(names);
        Ok(stanzas(&output(command, "apt-cache show")?))
    }

    /// Downloads exact versions without their dependencies into `into`.
    pub(crate) fn download(
        &self,
        wanted: &[Candidate],
        into: &Path,
        progress: &dyn Progress,
    ) -> Result<(), ToolsError> {
        let mut command = self.command("apt-get");
        command.current_dir(into).args(["download", "-q=1"]);
        command.args(wanted.iter().map(|one| format!("{}={}", one.name, one.version)));
        let mut done = 0_usize;
        stream(command, "apt-get download", &mut |line| {
            if line.starts_with("Get:") {
                done += 1;
                progress.detail(&format!("{done} of {}: {line}", wanted.len()));
            }
        })
    }

    fn command(&self, program: &str) -> Command {
        let dir = self.dir.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::State={dir}"),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::State::status={dir}/dpkg/status"),
            format!("Dir::Cache={dir}/cache"),
            format!("Dir::Etc::sourcelist={dir}/etc/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            format!("Dir::Etc::preferencesparts={dir}/etc/preferences.d"),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "APT::Get::AllowUnauthenticated=false".to_owned(),
            // The sandbox user cannot read a private directory; apt would only warn about it.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::http::Timeout=30".to_owned(),
            "Acquire::https::Timeout=30".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command
    }
}

/// Unpacks a package's files below `into`. No maintainer script runs.
pub(crate) fn extract(deb: &Path, into: &Path) -> Result<(), ToolsError> {
    let mut command = Command::new("dpkg-deb");
    command.arg("-x").arg(deb).arg(into).env("LC_ALL", "C").stdin(Stdio::null());
    output(command, "dpkg-deb -x").map(|_| ())
}

/// Runs a command to its end and gives its standard output; on failure its standard error becomes part of the error.
pub(crate) fn output(mut command: Command, name: &'static str) -> Result<String, ToolsError> {
    let result = command.output().map_err(|source| start_error(&command, source))?;
    if result.status.success() {
        return Ok(String::from_utf8_lossy(&result.stdout).into_owned());
    }
    Err(ToolsError::Failed {
        command: name,
        message: tail(&String::from_utf8_lossy(&result.stderr)),
    })
}

/// Runs a command and hands each line of its standard output on while it runs.
fn stream(
    mut command: Command,
    name: &'static str,
    each: &mut dyn FnMut(&str),
) -> Result<(), ToolsError> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| start_error(&command, source))?;
    let stderr = child.stderr.take();
    // Read beside us, so that a chatty error stream can never block the command.
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut stderr) = stderr {
            let _ignored = stderr.read_to_string(&mut text);
        }
        text
    });
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            each(&line);
        }
    }
    let status = child.wait().map_err(|source| start_error(&command, source))?;
    let message = errors.join().unwrap_or_default();
    if status.success() {
        Ok(())
    } else {
        Err(ToolsError::Failed { command: name, message: tail(&message) })
    }
}

fn start_error(command: &Command, source: std::io::Error) -> ToolsError {
    let program = command.get_program().to_string_lossy().into_owned();
    if source.kind() == std::io::ErrorKind::NotFound {
        let package = if program.starts_with("dpkg") { "dpkg" } else { "apt" };
        return ToolsError::Missing { program, package };
    }
    ToolsError::Start { program, source }
}

/// The end of a long message: the last lines hold the reason.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

/// `'uri' file size hash` lines of `--print-uris`: file names and sizes in bytes.
fn uri_files(text: &str) -> Vec<(String, u64)> {
    let lines = text.lines().filter(|line| line.starts_with('\''));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect()
}

/// Stanzas of `apt-cache show`, by package name.
fn stanzas(text: &str) -> BTreeMap<String, Vec<Candidate>> {
    let mut found: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    let mut now = Candidate::default();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            let done = std::mem::take(&mut now);
            if !done.name.is_empty() {
                found.entry(done.name.clone()).or_default().push(done);
            }
            continue;
        }
        let Some((key, value)) = line.split_once(": ") else { continue };
        let field = match key {
            "Package" => &mut now.name,
            "Version" => &mut now.version,
            "Architecture" => &mut now.architecture,
            "SHA256" => &mut now.sha256,
            "Depends" => &mut now.depends,
            _ => continue,
        };
        value.clone_into(field);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_sizes_are_read_from_print_uris() {
        let text = "Reading...\n'http://mirror.test/a_1%3a2_amd64.deb' a_1%3a2_amd64.deb 49432 MD5Sum:00\n";
        assert_eq!(uri_files(text), [("a_1%3a2_amd64.deb".to_owned(), 49432)]);
    }

    #[test]
    fn stanzas_are_grouped_by_package_in_the_archive_order() {
        let text = "Package: a\nVersion: 2\nSHA256: x\n\nPackage: a\nVersion: 1\nSHA256: y\n\nPackage: b\nVersion: 9\n";
        let found = stanzas(text);
        assert_eq!(
            found["a"].iter().map(|one| one.version.as_str()).collect::<Vec<_>>(),
            ["2", "1"]
        );
        assert_eq!(found["b"].len(), 1);
    }
}
