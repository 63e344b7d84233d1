//! Compiles upstream's Kubernetes (the Go module in `kubernetes/`) to one static program, equal from any directory, and writes down
//! what is in it. What becomes of it in an image is the image builder's business.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use ingot_image_builder::digest;
pub(crate) use ingot_image_builder::kubernetes::Built;
use ingot_image_builder::kubernetes::{ABOUT, About, Module, PROGRAM};
use ingot_image_builder::progress::{Progress, Terminal};

use crate::go::{self, Go, Version};
use crate::workspace;

#[cfg(test)]
mod tests;

/// As upstream builds its releases (`hack/lib/golang.sh`): without a tracer that keeps the linker from dropping unused code.
const TAGS: &str = "grpcnotrace,notest,selinux";
/// Packages with upstream's version numbers.
const VERSION_PACKAGES: [&str; 2] =
    ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

/// How much of what Go said an error carries: without a proxy it says the same of every package.
const LAST_LINES: usize = 8;

/// Arguments of `cargo xtask kubernetes`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Compile even when nothing changed, and compare with what was there: the same sources must give the same bytes.
    #[arg(long)]
    force: bool,
}

/// Runs `cargo xtask kubernetes`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let progress = Terminal::new();
    let before = Built::read(&directory()).ok();
    let built = build(&progress, args.force)?;
    println!("{} {}", built.program.display(), built.about.version);
    println!("  sha256 {}, {} Go modules", built.about.sha256, built.about.modules.len());
    println!("  {}", built.about.programs.join(", "));
    if let Some(before) =
        before.filter(|before| args.force && before.about.inputs == built.about.inputs)
    {
        ensure!(
            before.about.sha256 == built.about.sha256,
            "the same sources gave other bytes than before: {}",
            before.about.sha256
        );
        println!("the same bytes as before");
    }
    Ok(())
}

/// The compiled program; cheap when nothing changed. An error says what is missing, and what would help.
pub(crate) fn ensure() -> anyhow::Result<Built> {
    ensure_with(&Terminal::new())
}

/// The same for a caller that says itself how it goes.
pub(crate) fn ensure_with(progress: &dyn Progress) -> anyhow::Result<Built> {
    build(progress, false)
}

fn directory() -> PathBuf {
    workspace::target().join("kubernetes")
}

/// With `force`, it is compiled in any case; Go's cache of compiled packages is used, and the program is linked anew.
fn build(progress: &dyn Progress, force: bool) -> anyhow::Result<Built> {
    let source = workspace::root().join("kubernetes");
    let directory = directory();
    fs_err::create_dir_all(&directory)?;
    // Two builds at a time would only take twice as long.
    let guard = fs_err::File::create(directory.join(".lock"))?;
    guard.file().lock().context("wait for another build of Kubernetes")?;
    let needed = go_needed(&fs_err::read_to_string(source.join("go.mod"))?)?;
    let sources = sources(&source)?;
    let there = Built::read(&directory).ok();
    let installed = go::find(needed);
    if let Some(built) = there.filter(|_| !force) {
        // A machine that has lost its Go can still use what it compiled.
        let compiler = installed.as_ref().map_or(&built.about.go, |go| &go.version);
        if built.about.inputs == inputs(&sources, compiler) {
            return Ok(built);
        }
    }
    let go = match installed {
        Some(go) => go,
        None => go::ensure(needed).context("compile Kubernetes")?,
    };
    let job = Job { go: &go, source: &source, directory: &directory, progress };
    let about = job.run(inputs(&sources, &go.version))?;
    let text = serde_json::to_string_pretty(&about)?;
    fs_err::write(directory.join(ABOUT), format!("{text}\n"))?;
    Ok(Built::read(&directory)?)
}

/// Digest of everything that decides what comes out.
fn inputs(sources: &str, compiler: &str) -> String {
    digest::of_bytes(format!("{sources}\n{compiler}\n{TAGS}\n{VERSION_PACKAGES:?}").as_bytes())
}

/// Name and digest of every source file and of the pins.
fn sources(directory: &Path) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(directory)?.to_string_lossy().into_owned();
            if path.is_dir() {
                left.push(path);
            } else if [".go", "go.mod", "go.sum"].iter().any(|end| name.ends_with(end)) {
                lines.push(format!("{name} {}", digest::of_file(&path)?.0));
            }
        }
    }
    lines.sort();
    Ok(lines.join("\n"))
}

/// The version in the line `go 1.26.4` of a go.mod.
fn go_needed(text: &str) -> anyhow::Result<Version> {
    let line = text.lines().find_map(|line| line.strip_prefix("go "));
    let mut numbers = line.context("kubernetes/go.mod names no version of Go")?.trim().split('.');
    let mut next = || numbers.next().map_or(Ok(0), str::parse);
    Ok([next()?, next()?, next()?])
}

/// One build under way.
struct Job<'a> {
    go: &'a Go,
    source: &'a Path,
    directory: &'a Path,
    progress: &'a dyn Progress,
}

impl Job<'_> {
    fn run(&self, inputs: String) -> anyhow::Result<About> {
        self.progress.step("getting the source of Kubernetes");
        let packages = self.download()?;
        let (version, date) = self.release()?;
        self.progress.step("testing the part of it that is our own");
        self.own_tests()?;
        self.progress.step(&format!(
            "compiling Kubernetes {version} with {}: {packages} packages, some minutes",
            self.go.version
        ));
        let partial = self.directory.join("partial");
        self.compile(&partial, &version, &date, packages)?;
        self.progress.step("trying every program of it");
        let programs = try_all(&partial, &version)?;
        let list = workspace::output(self.go.command().args(["version", "-m"]).arg(&partial))?;
        let (sha256, _) = digest::of_file(&partial)?;
        let compiler = self.go.version.clone();
        let modules = modules(&list);
        ensure!(!modules.is_empty(), "Go names no modules of the program it compiled");
        fs_err::rename(partial, self.directory.join(PROGRAM))?;
        Ok(About { inputs, version, go: compiler, sha256, programs, modules })
    }

    fn command(&self) -> Command {
        let mut command = self.go.command();
        command.current_dir(self.source);
        command
    }

    /// Gets what is needed and not there yet; says how many packages that is.
    fn download(&self) -> anyhow::Result<usize> {
        let mut command = self.command();
        command.args(["list", "-deps", "-tags", TAGS, "."]);
        let message = |line: &str| {
            if let Some(what) = line.strip_prefix("go: downloading ") {
                self.progress.detail(what);
            }
        };
        let list = watch(&mut command, message).with_context(|| {
            format!(
                "get the source of Kubernetes: Go's module proxy must be reachable (GOPROXY is {}; name one that is \
                 with `go env -w GOPROXY=...`)",
                self.go.proxy()
            )
        })?;
        Ok(list.lines().count())
    }

    /// Upstream's version, and the moment it was released: the program says when it was made, and that must not be now.
    fn release(&self) -> anyhow::Result<(String, String)> {
        let mut command = self.command();
        let text = workspace::output(command.args(["list", "-m", "-json", "k8s.io/kubernetes"]))?;
        let answer: serde_json::Value = serde_json::from_str(&text).context("read Go's answer")?;
        let word = |name: &str| -> anyhow::Result<String> {
            let text = answer[name].as_str();
            Ok(text.with_context(|| format!("Go names no {name} of k8s.io/kubernetes"))?.to_owned())
        };
        Ok((word("Version")?, word("Time")?))
    }

    /// Tests of the package below the main one; they need no cluster. With the flags of the build, so that nothing is compiled twice,
    /// and without `go vet`, which would read every package of Kubernetes first: minutes.
    fn own_tests(&self) -> anyhow::Result<()> {
        let mut command = self.command();
        command.args(["test", "-vet=off", "-trimpath", "-buildvcs=false", "-tags", TAGS]);
        workspace::output(command.arg("./localpath"))
            .context("test the provisioner of local volumes")?;
        Ok(())
    }

    fn compile(&self, to: &Path, version: &str, date: &str, packages: usize) -> anyhow::Result<()> {
        let mut command = self.command();
        // It prints packages as it compiles them.
        command.args(["build", "-v", "-trimpath", "-buildvcs=false", "-tags", TAGS, "-ldflags"]);
        command.arg(linker_flags(version, date)?).arg("-o").arg(to).arg(".");
        let mut compiled = 0_usize;
        let message = |line: &str| {
            if line.contains(' ') {
                return;
            }
            compiled += 1;
            let text = format!("package {compiled} of at most {packages}: {line}");
            // Now and then also for those who read a log: it can take a quarter of an hour.
            if compiled.is_multiple_of(500) {
                self.progress.step(&text);
            } else {
                self.progress.detail(&text);
            }
        };
        watch(&mut command, message).context("compile Kubernetes").map(|_| ())
    }
}

/// What upstream's build sets: version, and a release's date instead of today's.
fn linker_flags(version: &str, date: &str) -> anyhow::Result<String> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("{version} is no version of Kubernetes");
    };
    let mut flags = "-s -w".to_owned();
    for package in VERSION_PACKAGES {
        for (name, value) in [
            ("gitVersion", version),
            ("gitMajor", major),
            ("gitMinor", minor),
            // The proxy serves upstream's tag, and go.sum proves that it is the same for everybody.
            ("gitTreeState", "clean"),
            ("gitCommit", ""),
            ("buildDate", date),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    Ok(flags)
}

/// Starts every program with `--help`: packages of one program can break another by what they do before `main`.
fn try_all(program: &Path, version: &str) -> anyhow::Result<Vec<String>> {
    let list = workspace::output(Command::new(program).arg("--list"))?;
    let names: Vec<String> = list.lines().map(str::to_owned).collect();
    for name in &names {
        let mut command = Command::new(program);
        let output = command.arg(name).arg("--help").stdin(Stdio::null()).output()?;
        let text = [output.stdout, output.stderr].concat();
        judge(name, output.status.code(), &String::from_utf8_lossy(&text))?;
    }
    let said = workspace::output(Command::new(program).args(["kubelet", "--version"]))?;
    ensure!(said.trim() == format!("Kubernetes {version}"), "kubelet says it is {said}");
    Ok(names)
}

/// Whether a program showed its help. CoreDNS, as every program with Go's own flags, ends with 2 after it; so does a panic.
fn judge(name: &str, code: Option<i32>, text: &str) -> anyhow::Result<()> {
    let showed = text.to_lowercase().contains("usage") && !text.contains("panic:");
    ensure!(matches!(code, Some(0 | 2)) && showed, "{name} --help ended with {code:?}: {text}");
    Ok(())
}

/// Runs a command, gives each line of its standard error to `message`, and returns its standard output. An error carries the last lines.
fn watch(command: &mut Command, mut message: impl FnMut(&str)) -> anyhow::Result<String> {
    let words = workspace::describe(command);
    let short: String = words.chars().take(60).collect();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start `{short}`"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || {
        stdout.map_or_else(|| Ok(String::new()), std::io::read_to_string)
    });
    let mut last = Vec::new();
    for line in stderr.into_iter().flat_map(|it| BufReader::new(it).lines()).map_while(Result::ok) {
        message(&line);
        last.push(line);
        if last.len() > LAST_LINES {
            last.remove(0);
        }
    }
    let status = child.wait()?;
    let output = reader.join().map_err(|_| anyhow::anyhow!("reading the output failed"))??;
    if !status.success() {
        bail!("`{short}...` ended with {status}:\n{}", last.join("\n"));
    }
    Ok(output)
}

/// Modules from the output of `go version -m`: lines `dep path version sum`, one that begins with `=>` replaces the one above it.
fn modules(text: &str) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind = words.next();
        let (Some(path), Some(version)) = (words.next(), words.next()) else { continue };
        let sum = words.next().unwrap_or_default();
        let module =
            Module { path: path.to_owned(), version: version.to_owned(), sum: sum.to_owned() };
        match kind {
            Some("dep") => modules.push(module),
            Some("=>") => {
                modules.pop();
                modules.push(module);
            }
            _ => {}
        }
    }
    modules
}
