//! Checks that the machine has what the other commands need, and installs what is missing or names the command that does.
//!
//! Almost everything comes with the repository or goes into `target/tools` (QEMU, firmware, image tools: see the image
//! builder). Only what the Rust build itself links against must be installed on the machine.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use ingot_image_builder::progress::Progress;
use ingot_image_builder::tools::Tools;

use crate::workspace;

/// Arguments of `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say what is missing.
    #[arg(long)]
    check: bool,
}

/// Something of the machine, and the Debian package that has it.
struct Need {
    /// How to see that it is there.
    sign: Sign,
    package: &'static str,
    /// What for.
    why: &'static str,
}

enum Sign {
    Program(&'static str),
    File(&'static str),
}

/// What the machine must have. WHEN CHANGING: the README names no packages; it relies on this list.
const NEEDS: &[Need] = &[
    Need { sign: Sign::Program("cc"), package: "gcc", why: "links Rust programs and builds ring" },
    Need {
        sign: Sign::File("/usr/lib/x86_64-linux-gnu/libc.a"),
        package: "libc6-dev",
        why: "static C library, for programs that need no loader",
    },
    Need {
        sign: Sign::File("/usr/lib/x86_64-linux-gnu/libseccomp.a"),
        package: "libseccomp-dev",
        why: "system call filters of containers",
    },
    Need { sign: Sign::Program("dpkg-deb"), package: "dpkg", why: "unpacks Debian packages" },
    Need { sign: Sign::Program("xz"), package: "xz-utils", why: "unpacks Debian packages" },
    Need {
        sign: Sign::Program("setpriv"),
        package: "util-linux",
        why: "makes QEMU end together with the program that started it",
    },
    Need {
        sign: Sign::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        package: "debian-archive-keyring",
        why: "checks where Debian packages come from",
    },
];

/// Runs `cargo xtask setup`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.check {
        let missing = missing();
        if missing.is_empty() {
            println!("nothing is missing");
            return Ok(());
        }
        bail!("missing: {}\n  install them with: {}", explain(&missing), install_command(&missing));
    }
    let progress = ingot_image_builder::progress::Terminal::new();
    ensure(&progress)?;
    println!("ready");
    Ok(())
}

/// Makes everything present: packages of the machine, then the tools below `target/tools`.
pub(crate) fn ensure(progress: &dyn Progress) -> anyhow::Result<Tools> {
    machine()?;
    Tools::ensure(&workspace::target(), progress).context("fetch QEMU and the image tools")
}

/// Installs what the machine lacks.
fn machine() -> anyhow::Result<()> {
    let lacking = missing();
    if lacking.is_empty() {
        return Ok(());
    }
    println!("missing on this machine: {}", explain(&lacking));
    let Some(mut command) = privileged() else {
        bail!(
            "this machine lacks packages, and this user may not install them; as root run: {}",
            install_command(&lacking)
        );
    };
    println!("installing them: {}", install_command(&lacking));
    let arguments = ["install", "-y", "-q", "--no-install-recommends"];
    command.args(arguments).args(packages(&lacking)).env("DEBIAN_FRONTEND", "noninteractive");
    if workspace::run(&mut command).is_err() {
        // Package lists that were never fetched, or are too old for what the mirror has now.
        if let Some(mut update) = privileged() {
            workspace::run(update.args(["update", "-q"]))?;
        }
        workspace::run(&mut command)?;
    }
    let left = missing();
    if !left.is_empty() {
        bail!("still missing after the installation: {}", explain(&left));
    }
    Ok(())
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !need.is_present()).collect()
}

impl Need {
    fn is_present(&self) -> bool {
        match self.sign {
            Sign::File(path) => Path::new(path).exists(),
            Sign::Program(name) => in_path(name),
        }
    }
}

fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// `apt-get` with the right to install, if there is a way to it.
fn privileged() -> Option<Command> {
    if !in_path("apt-get") {
        return None;
    }
    let id = workspace::output(Command::new("id").arg("-u")).ok()?;
    if id.trim() == "0" {
        return Some(Command::new("apt-get"));
    }
    // With a terminal sudo may ask for the password; without one it must not need any.
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let mut sudo = Command::new("sudo");
    if !terminal {
        sudo.arg("-n");
    }
    let probe = Command::new("sudo").args(["-n", "true"]).output();
    let may = terminal || probe.is_ok_and(|output| output.status.success());
    (in_path("sudo") && may).then(|| {
        sudo.arg("apt-get");
        sudo
    })
}

fn packages<'a>(needs: &'a [&Need]) -> impl Iterator<Item = &'a str> {
    needs.iter().map(|need| need.package)
}

fn explain(needs: &[&Need]) -> String {
    needs
        .iter()
        .map(|need| format!("{} ({})", need.package, need.why))
        .collect::<Vec<_>>()
        .join(", ")
}

fn install_command(needs: &[&Need]) -> String {
    format!("apt-get install -y {}", packages(needs).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::{NEEDS, explain, in_path, install_command};

    #[test]
    fn a_missing_package_is_named_with_its_reason_and_the_command() {
        let needs: Vec<_> = NEEDS.iter().filter(|need| need.package == "libseccomp-dev").collect();
        assert_eq!(install_command(&needs), "apt-get install -y libseccomp-dev");
        assert_eq!(explain(&needs), "libseccomp-dev (system call filters of containers)");
    }

    #[test]
    fn programs_are_looked_for_on_the_path() {
        assert!(in_path("cargo") || in_path("true"));
        assert!(!in_path("no-such-program-anywhere"));
    }
}
