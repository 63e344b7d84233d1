//! Typed names for what a machine is made of: the built image, the firmware, QEMU itself. Found before a test starts, never
//! built inside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The files of one built image, as the image builder leaves them in `target/images/<profile>/`.
#[derive(Debug, Clone)]
pub struct Image {
    directory: PathBuf,
}

impl Image {
    /// The image in `directory`; an error names the first file that is missing.
    pub fn find(directory: &Path) -> anyhow::Result<Self> {
        let image = Self { directory: directory.to_owned() };
        for file in [image.kernel(), image.initrd(), image.raw_disk(), directory.join("cmdline")] {
            ensure!(
                file.is_file(),
                "{} is missing; build it with `cargo xtask image --profile {}`",
                file.display(),
                directory.file_name().unwrap_or_default().to_string_lossy()
            );
        }
        Ok(image)
    }

    /// The kernel, for a direct boot.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The initrd, for a direct boot.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.directory.join("initrd.img")
    }

    /// The kernel command line of the image.
    pub fn command_line(&self) -> anyhow::Result<String> {
        Ok(fs_err::read_to_string(self.directory.join("cmdline"))?.trim().to_owned())
    }

    /// The raw disk image, as shipped.
    #[must_use]
    pub fn raw_disk(&self) -> PathBuf {
        self.directory.join("disk.raw")
    }
}

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// The image to boot.
    pub image: Image,
    tools: Tools,
    /// Where machines and evidence are kept: `target/` of the repository.
    target: PathBuf,
}

/// QEMU and its firmware.
#[derive(Debug, Clone)]
struct Tools {
    sysroot: PathBuf,
}

impl Artifacts {
    /// The image of `profile` and the tools below `target`.
    pub fn find(target: &Path, profile: &str) -> anyhow::Result<Self> {
        let image = Image::find(&target.join("images").join(profile)).context("find the image to test")?;
        let tools = Tools { sysroot: target.join("spike/sysroot") };
        Ok(Self { image, tools, target: target.to_owned() })
    }

    /// The same tools with another image.
    #[must_use]
    pub fn with_image(&self, image: Image) -> Self {
        Self { image, ..self.clone() }
    }

    /// `target/` of the repository.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// `qemu-system-x86_64`, ready for arguments.
    #[must_use]
    pub fn qemu(&self) -> Command {
        let mut command = self.tools.program("qemu-system-x86_64");
        for directory in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(self.tools.sysroot.join(directory));
        }
        command
    }

    /// `qemu-img`, ready for arguments.
    #[must_use]
    pub fn qemu_img(&self) -> Command {
        self.tools.program("qemu-img")
    }

    /// UEFI firmware: the code, and variables to copy.
    #[must_use]
    pub fn firmware(&self) -> (PathBuf, PathBuf) {
        let directory = self.tools.sysroot.join("usr/share/OVMF");
        (directory.join("OVMF_CODE_4M.fd"), directory.join("OVMF_VARS_4M.fd"))
    }
}

impl Tools {
    fn program(&self, name: &str) -> Command {
        let root = &self.sysroot;
        let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(root.join("usr/lib/x86_64-linux-gnu"));
        command.arg(root.join("usr/bin").join(name));
        command.env("QEMU_MODULE_DIR", root.join("usr/lib/x86_64-linux-gnu/qemu"));
        command
    }
}
