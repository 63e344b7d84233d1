//! The compressed disk image, made from the raw one by `qemu-img`. Without parallel writes the result depends on
//! nothing but the raw image.

use std::path::Path;
use std::process::{Command, Stdio};

/// Converts `raw` into a compressed qcow2 image. `qemu_img` is a command for `qemu-img`.
///
/// # Errors
/// Errors of running it; what it said when it failed.
pub fn convert(mut qemu_img: Command, raw: &Path, qcow2: &Path) -> std::io::Result<()> {
    // Compression zlib, the default: every reader of the format knows it.
    qemu_img.args(["convert", "-c", "-m", "1", "-f", "raw", "-O", "qcow2"]).arg(raw).arg(qcow2);
    let result = qemu_img.stdin(Stdio::null()).output()?;
    if result.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&result.stderr).trim().to_owned();
    Err(std::io::Error::other(format!("qemu-img convert failed: {message}")))
}
