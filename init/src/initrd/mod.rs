//! The parts of `ingot-initrd`: each step of the way from the kernel's first program to the verified root.

pub mod command_line;
pub mod hand_over;
pub mod modules;
pub mod root;

use std::path::PathBuf;
use std::time::Duration;

/// Why the verified root could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// A file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder to mount on could not be made.
    #[error("create {path}")]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel command line does not say what to boot.
    #[error("kernel command line: {0}")]
    CommandLine(#[source] command_line::CommandLineError),
    /// The kernel log could not be opened.
    #[error("kernel log")]
    Kmsg(#[from] ingot_linux::kmsg::KmsgError),
    /// Devices could not be watched.
    #[error("watch devices")]
    Uevent(#[from] ingot_linux::uevent::UeventError),
    /// No matching partition came.
    #[error("waited {} s for a partition {names} that matches the root hash {root_hash}; found {found}", .waited.as_secs())]
    NoRoot {
        /// Names that were looked for.
        names: &'static str,
        /// What should have matched, in hex.
        root_hash: String,
        /// Partitions of that name and why they did not match.
        found: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The verified device was not made.
    #[error("verified device")]
    Verity(#[from] ingot_linux::dm_verity::VerityError),
    /// A mount was refused.
    #[error("mounts")]
    Mount(#[from] ingot_linux::mount::MountError),
    /// The init of the root could not be executed.
    #[error("execute {path}")]
    Exec {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
