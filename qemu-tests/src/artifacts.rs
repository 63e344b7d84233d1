//! Typed names for what a machine is made of: the built image, the firmware, QEMU itself. Found before a test starts, never
//! built inside it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

/// The files of one built image, as the image builder leaves them in `target/images/<profile>/`.
#[derive(Debug, Clone)]
pub struct Image {
    directory: PathBuf,
}

impl Image {
    /// The image in `directory`; an error names the first file that is missing.
    pub fn find(directory: &Path) -> anyhow::Result<Self> {
        let image = Self { directory: directory.to_owned() };
        for file in [image.kernel(), image.initrd(), image.raw_disk(), image.command_line_file()] {
            ensure!(
                file.is_file(),
                "{} is missing; build it with `cargo xtask image --profile {}`",
                file.display(),
                directory.file_name().unwrap_or_default().to_string_lossy()
            );
        }
        Ok(image)
    }

    /// What a boot needs under other names in `directory`, so that an image built meanwhile does not change under a machine's
    /// feet. Costs no space.
    pub fn pin(&self, directory: &Path) -> anyhow::Result<Self> {
        for file in [self.kernel(), self.initrd(), self.command_line_file(), self.raw_disk()] {
            fs_err::hard_link(&file, directory.join(file.file_name().unwrap_or_default()))?;
        }
        Self::find(directory)
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
        Ok(fs_err::read_to_string(self.command_line_file())?.trim().to_owned())
    }

    /// The file that holds the kernel command line.
    #[must_use]
    pub fn command_line_file(&self) -> PathBuf {
        self.directory.join("cmdline")
    }

    /// The root file system with its hash tree, as it lies in a root partition.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("root.img")
    }

    /// The raw disk image, as shipped.
    #[must_use]
    pub fn raw_disk(&self) -> PathBuf {
        self.directory.join("disk.raw")
    }
}

/// A program with the words that must come first, e.g. a loader and its library path.
#[derive(Debug, Clone)]
pub struct Program {
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl From<&Command> for Program {
    fn from(command: &Command) -> Self {
        let mut words = vec![command.get_program().to_owned()];
        words.extend(command.get_args().map(OsStr::to_owned));
        let environment = command.get_envs();
        let environment = environment
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        Self { words, environment }
    }
}

impl Program {
    /// The program, ready for arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let (program, first) =
            self.words.split_first().expect("made from a command, which has a program");
        let mut command = Command::new(program);
        command.args(first).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Programs and firmware of the host that machines need.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `qemu-system-x86_64`, told where its own files are.
    pub qemu: Program,
    /// `qemu-img`.
    pub qemu_img: Program,
    /// `debugfs` of e2fsprogs.
    pub debugfs: Program,
    /// `dump.erofs` of erofs-utils.
    pub dump_erofs: Program,
    /// UEFI firmware: the code.
    pub firmware_code: PathBuf,
    /// UEFI firmware: the variables every machine gets a copy of.
    pub firmware_variables: PathBuf,
    /// The operator's command line, for what only it can do.
    pub ingotctl: PathBuf,
}

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// The image to boot.
    pub image: Image,
    /// Programs of the host.
    pub tools: Tools,
    /// Where machines and evidence are kept: `target/` of the repository.
    pub target: PathBuf,
}

impl Artifacts {
    /// The same tools with another image.
    #[must_use]
    pub fn with_image(&self, image: Image) -> Self {
        Self { image, ..self.clone() }
    }
}
