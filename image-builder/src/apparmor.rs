//! AppArmor profiles, compiled to the tables that the kernel takes: a node then needs no compiler that reads text as root.
//!
//! Debian's own `apparmor_parser` does it, from the packages of the recipe. Nothing here loads a profile, and the kernel of
//! the build machine is not asked what it can do.

use std::path::Path;

use crate::recipe::ExtraFile;
use crate::tools::{Package, Tools};
use crate::tree::{Content, Tree};

/// The compiler, in its package.
const PARSER: &str = "usr/sbin/apparmor_parser";
/// What the kernel of that Debian release can do.
const KERNEL: &str = "usr/share/apparmor-features/features";
/// The version of the rules that profiles are written in: what is newer (user namespaces, io_uring) is not decided by them.
const POLICY: &str = "etc/apparmor.d/abi/3.0";

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApparmorError {
    /// No package of the recipe has the compiler.
    #[error("no package of the recipe has {PARSER}; add \"apparmor\" to root.packages")]
    NoParser,
    /// The compiler could not be run, or its result not be read.
    #[error("cannot compile the AppArmor profile {profile}")]
    Run {
        /// Its file.
        profile: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The profile has a mistake.
    #[error("the AppArmor profile {profile} has a mistake:\n{message}")]
    Refused {
        /// Its file.
        profile: String,
        /// What the compiler says.
        message: String,
    },
    /// Its path on the node is taken, or bad.
    #[error(transparent)]
    Tree(#[from] crate::tree::TreeError),
}

/// Compiles each of `profiles`, whose files are below `directory`, and puts it into the tree. `work` is for files on the way.
///
/// # Errors
/// [`ApparmorError`].
pub(crate) fn add(
    tree: &mut Tree,
    profiles: &[ExtraFile],
    directory: &Path,
    packages: &[Package],
    tools: &Tools,
    work: &Path,
) -> Result<(), ApparmorError> {
    for profile in profiles {
        let compiled = compile(&directory.join(&profile.from), packages, tools, work)?;
        tree.file(&profile.path, profile.mode, Content::Bytes(compiled), crate::root::MADE)?;
    }
    Ok(())
}

/// The tables of one profile.
///
/// # Errors
/// [`ApparmorError`].
pub fn compile(
    profile: &Path,
    packages: &[Package],
    tools: &Tools,
    work: &Path,
) -> Result<Vec<u8>, ApparmorError> {
    let package = packages.iter().find(|package| package.dir.join(PARSER).is_file());
    let dir = &package.ok_or(ApparmorError::NoParser)?.dir;
    let name = profile.display().to_string();
    let failed = |source| ApparmorError::Run { profile: name.clone(), source };
    let out = work.join("profile.compiled");
    let mut command = tools.command_at(&dir.join(PARSER));
    // No config of this machine, no cache, and every warning is a mistake.
    command.args(["--config-file", "/dev/null", "--skip-cache", "--skip-kernel-load", "--Werror"]);
    // One thread: the result must not depend on the machine.
    command.args(["--jobs", "1", "--base"]).arg(dir.join("etc/apparmor.d"));
    command.arg("--kernel-features").arg(dir.join(KERNEL));
    command.arg("--policy-features").arg(dir.join(POLICY));
    command.arg("--ofile").arg(&out).arg(profile);
    let result = command.stdin(std::process::Stdio::null()).output().map_err(failed)?;
    if !result.status.success() {
        let message = String::from_utf8_lossy(&result.stderr).trim().to_owned();
        return Err(ApparmorError::Refused { profile: name, message });
    }
    let compiled = fs_err::read(&out).map_err(failed)?;
    fs_err::remove_file(&out).map_err(failed)?;
    Ok(compiled)
}
