//! The root file system: an EROFS image made by `mkfs.erofs` from a tar stream.
//!
//! Owners, modes and times are in the stream; the identifier is given; so the image depends on nothing of the machine.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::digest;

/// How file contents are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Fast to read: about three times zstd's speed for a third more bytes.
    #[default]
    Lz4,
    /// Small.
    Zstd,
    /// As it is.
    None,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErofsError {
    /// `mkfs.erofs` could not be run, or the stream could not be written to it.
    #[error("cannot run mkfs.erofs")]
    Run {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It refused.
    #[error("mkfs.erofs failed: {message}")]
    Failed {
        /// The end of what it said.
        message: String,
    },
}

/// Makes `image` from the tar archive `tar`. `mkfs` is a command for `mkfs.erofs`. The files of `uncompressed`, paths
/// without a slash in front, are kept as they are.
///
/// # Errors
/// [`ErofsError`].
pub fn make(
    mut mkfs: Command,
    compression: Compression,
    uncompressed: &[&str],
    uuid: &[u8; 16],
    tar: &Path,
    image: &Path,
) -> Result<(), ErofsError> {
    let run = |source| ErofsError::Run { source };
    if image.exists() {
        fs_err::remove_file(image).map_err(run)?;
    }
    mkfs.arg("--quiet")
        .arg("-T0")
        .arg("--all-root")
        .arg("-U")
        .arg(digest::guid_text(uuid))
        .arg("-x-1");
    match compression {
        // 64 KiB clusters: nearly the size of larger ones, and random reads stay short. lz4's highest level saves
        // half a percent and takes ten times as long, zstd's likewise.
        Compression::Lz4 => mkfs.args(["-zlz4hc,9", "-C65536"]),
        Compression::Zstd => mkfs.args(["-zzstd,9", "-C65536"]),
        Compression::None => &mut mkfs,
    };
    let hints = image.with_extension("hints");
    if !uncompressed.is_empty() {
        fs_err::write(&hints, uncompressed.iter().map(|path| hint(path)).collect::<String>())
            .map_err(run)?;
        mkfs.arg(format!("--compress-hints={}", hints.display()));
    }
    // Ends of files are kept beside their inodes.
    mkfs.arg("-Eztailpacking").arg("--tar=f").arg(image).arg(tar);
    mkfs.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = mkfs.spawn().map_err(run)?;
    let mut message = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut message).map_err(run)?;
    }
    let status = child.wait().map_err(run)?;
    if !uncompressed.is_empty() {
        fs_err::remove_file(&hints).map_err(run)?;
    }
    if status.success() {
        Ok(())
    } else {
        Err(ErofsError::Failed { message: message.trim().to_owned() })
    }
}

/// The line that has a file kept as it is: clusters of no bytes for the path that this regular expression matches.
fn hint(path: &str) -> String {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '/' | '-' | '_');
    let path: String = path
        .chars()
        .map(|sign| if plain(sign) { sign.into() } else { format!("[{sign}]") })
        .collect();
    format!("0 ^/?{path}$\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_means_one_path_and_nothing_like_it() {
        assert_eq!(hint("usr/bin/a-b.c"), "0 ^/?usr/bin/a-b[.]c$\n");
    }
}
