//! Programs and packages from Debian that the builder and the tests use, kept below `target/tools`.
//!
//! [`Tools::ensure`] downloads QEMU, OVMF, `mkfs.erofs` and the like into a private sysroot and hands out commands
//! that run from there, so nothing is installed on the machine and every machine runs the same versions. It never
//! changes anything outside its directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

mod apt;
mod lock;
mod mirror;
mod packages;

pub use lock::{Lock, LockError, Locked};
pub use packages::{LockMode, Package};

use crate::digest;
use crate::progress::Progress;

/// Packages that run on the build machine. WHEN CHANGING: the stamp below follows by itself.
const HOST_PACKAGES: &[&str] =
    &["qemu-system-x86", "qemu-utils", "ovmf", "erofs-utils", "e2fsprogs", "cryptsetup-bin"];
const LIBRARY_DIR: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// What can go wrong while getting packages and tools.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolsError {
    /// A program of the build machine is absent.
    #[error("{program} is missing on this machine; install it with: apt-get install {package}")]
    Missing {
        /// The program.
        program: String,
        /// The package that has it.
        package: &'static str,
    },
    /// A program could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("`{command}` failed:\n{message}")]
    Failed {
        /// The command, shortened.
        command: &'static str,
        /// The end of its error output.
        message: String,
    },
    /// A file or directory below `target/tools` could not be used.
    #[error("cannot prepare the tools directory")]
    Prepare {
        /// Why, with the path.
        #[source]
        source: std::io::Error,
    },
    /// The machine's apt configuration names no mirror of Debian.
    #[error(
        "no Debian mirror found in /etc/apt/sources.list or /etc/apt/sources.list.d; add one line there, for example: \
         deb http://YOUR-MIRROR/debian trixie main"
    )]
    NoMirror,
    /// The archive does not know a package.
    #[error("Debian has no package named {name}; check the image recipe")]
    UnknownPackage {
        /// The name asked for.
        name: String,
    },
    /// The lock is binding and cannot be followed.
    #[error(
        "package {name}: the lock file names {locked}, which the mirror no longer has (newest is {newest}); build without \
         --locked, or write a new lock file with `ingot-image lock`"
    )]
    LockedGone {
        /// The package.
        name: String,
        /// What the lock file says.
        locked: String,
        /// What the mirror has.
        newest: String,
    },
    /// A downloaded file has another digest than the index said.
    #[error(
        "the mirror sent another file than its index names for package {name}; try again later"
    )]
    WrongFile {
        /// The package.
        name: String,
    },
    /// A tool is not in the sysroot.
    #[error(
        "the tools directory {root} holds no program {program}; delete the directory and run this again"
    )]
    NoProgram {
        /// The program's name.
        program: String,
        /// The sysroot.
        root: PathBuf,
    },
}

/// The tools of one checkout.
#[derive(Clone, Debug)]
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// Makes the tools present below `target_dir/tools`. Without network when they are there already, which takes
    /// milliseconds. Safe to call from several processes at once.
    ///
    /// # Errors
    /// [`ToolsError`]: a missing apt, no mirror, no network, a full disk.
    pub fn ensure(target_dir: &Path, progress: &dyn Progress) -> Result<Self, ToolsError> {
        let io = |source| ToolsError::Prepare { source };
        let root = target_dir.join("tools");
        fs_err::create_dir_all(&root).map_err(io)?;
        let root = fs_err::canonicalize(&root).map_err(io)?;
        let tools = Self { root };
        if tools.is_complete() {
            return Ok(tools);
        }
        let lock = fs_err::File::create(tools.root.join(".lock")).map_err(io)?;
        lock.file().lock().map_err(io)?;
        if !tools.is_complete() {
            tools.install(progress)?;
        }
        Ok(tools)
    }

    /// Makes packages for an image present and unpacked, in the order of `names`.
    ///
    /// # Errors
    /// [`ToolsError`]; with [`LockMode::Locked`] also when the lock cannot be followed.
    pub fn packages(
        &self,
        names: &[String],
        lock: &Lock,
        mode: LockMode,
        progress: &dyn Progress,
    ) -> Result<Vec<Package>, ToolsError> {
        let io = |source| ToolsError::Prepare { source };
        let file = fs_err::File::create(self.root.join(".lock")).map_err(io)?;
        file.file().lock().map_err(io)?;
        packages::Store::new(self.root.clone()).ensure(names, lock, mode, progress)
    }

    /// Downloads packages and everything they depend on, and unpacks them over each other below `into`: the files of a
    /// Debian system, of which no maintainer script ran. For the system the bench compares with, not for images.
    ///
    /// # Errors
    /// [`ToolsError`].
    pub fn unpack_closure(
        &self,
        names: &[&str],
        into: &Path,
        progress: &dyn Progress,
    ) -> Result<(), ToolsError> {
        let io = |source| ToolsError::Prepare { source };
        let file = fs_err::File::create(self.root.join(".lock")).map_err(io)?;
        file.file().lock().map_err(io)?;
        let apt = apt::Apt::new(self.root.join("apt"))?;
        if !apt.has_index() {
            apt.update(progress)?;
        }
        let mut files = apt.closure(names, progress)?;
        // The symbolic links at the root come first, or `lib/` of some other package becomes a directory.
        files.sort_by_key(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (!name.starts_with("base-files_"), name)
        });
        files.iter().try_for_each(|deb| apt::extract(deb, into))
    }

    /// A command that runs a program of the sysroot with the sysroot's own loader and libraries.
    ///
    /// # Errors
    /// [`ToolsError::NoProgram`].
    pub fn command(&self, program: &str) -> Result<Command, ToolsError> {
        let host = self.sysroot();
        let path = ["usr/bin", "usr/sbin"]
            .iter()
            .map(|dir| host.join(dir).join(program))
            .find(|path| path.exists());
        let path = path.ok_or_else(|| ToolsError::NoProgram {
            program: program.to_owned(),
            root: host.clone(),
        })?;
        Ok(self.command_at(&path))
    }

    /// A command that runs a program of some unpacked package with the sysroot's loader and libraries.
    #[must_use]
    pub fn command_at(&self, path: &Path) -> Command {
        let host = self.sysroot();
        let library = host.join(LIBRARY_DIR);
        let mut search = OsString::from(&library);
        search.push(":");
        search.push(library.join("systemd"));
        let mut command = Command::new(host.join(LOADER));
        let name = path.file_name().unwrap_or_default();
        command.arg("--library-path").arg(search).arg("--argv0").arg(name).arg(path);
        command
    }

    /// The x86-64 machine emulator, told where its firmware and loadable modules lie. Add the machine's arguments.
    ///
    /// # Errors
    /// [`ToolsError::NoProgram`].
    pub fn qemu(&self) -> Result<Command, ToolsError> {
        let host = self.sysroot();
        let mut command = self.command("qemu-system-x86_64")?;
        for dir in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(host.join(dir));
        }
        command.env("QEMU_MODULE_DIR", host.join(LIBRARY_DIR).join("qemu"));
        Ok(command)
    }

    /// `qemu-img`, for disk images.
    ///
    /// # Errors
    /// [`ToolsError::NoProgram`].
    pub fn qemu_img(&self) -> Result<Command, ToolsError> {
        self.command("qemu-img")
    }

    /// UEFI firmware code for a pflash drive (read-only, no Secure Boot).
    #[must_use]
    pub fn ovmf_code(&self) -> PathBuf {
        self.sysroot().join("usr/share/OVMF/OVMF_CODE_4M.fd")
    }

    /// Template of the UEFI variable store for a second pflash drive: copy it for each machine.
    #[must_use]
    pub fn ovmf_vars(&self) -> PathBuf {
        self.sysroot().join("usr/share/OVMF/OVMF_VARS_4M.fd")
    }

    /// The directory that holds the tools as they would lie below `/`.
    #[must_use]
    pub fn sysroot(&self) -> PathBuf {
        self.root.join("host")
    }

    /// Names and versions of the packages the tools came from, one a line. Part of what an image was made with.
    #[must_use]
    pub fn versions(&self) -> String {
        std::fs::read_to_string(self.root.join("host.packages")).unwrap_or_default()
    }

    /// True when the sysroot was unpacked completely, by a builder that wanted the same packages.
    fn is_complete(&self) -> bool {
        std::fs::read_to_string(self.sysroot().join(".complete"))
            .is_ok_and(|stamp| stamp == stamp_text())
    }

    fn install(&self, progress: &dyn Progress) -> Result<(), ToolsError> {
        let io = |source| ToolsError::Prepare { source };
        let apt = apt::Apt::new(self.root.join("apt"))?;
        apt.update(progress)?;
        let files = apt.closure(HOST_PACKAGES, progress)?;
        let (partial, host) = (self.root.join("host.partial"), self.sysroot());
        for old in [&partial, &host] {
            if old.exists() {
                fs_err::remove_dir_all(old).map_err(io)?;
            }
        }
        fs_err::create_dir_all(&partial).map_err(io)?;
        progress.step("unpacking the tools");
        let mut versions = String::new();
        for (index, file) in files.iter().enumerate() {
            progress.detail(&format!("{} of {}", index + 1, files.len()));
            apt::extract(file, &partial)?;
            versions.push_str(
                &file.file_stem().unwrap_or_default().to_string_lossy().replace("%3a", ":"),
            );
            versions.push('\n');
        }
        fs_err::write(self.root.join("host.packages"), versions).map_err(io)?;
        fs_err::write(partial.join(".complete"), stamp_text()).map_err(io)?;
        fs_err::rename(&partial, &host).map_err(io)
    }
}

fn stamp_text() -> String {
    digest::of_bytes(format!("1 {} {}", apt::SUITE, HOST_PACKAGES.join(" ")).as_bytes())
}
