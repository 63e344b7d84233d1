//! The unified kernel image: kernel, initrd and command line in one EFI program.
//!
//! The command line holds the root hash, so one signature over this file covers the whole system.

use crate::write::pe::{self, PeError, Section};

/// What goes in.
#[derive(Clone, Copy, Debug)]
pub struct Uki<'a> {
    /// systemd's EFI stub.
    pub stub: &'a [u8],
    /// Content of os-release.
    pub os_release: &'a str,
    /// Kernel command line.
    pub command_line: &'a str,
    /// Kernel release.
    pub kernel_release: &'a str,
    /// The initrd.
    pub initrd: &'a [u8],
    /// The kernel, an EFI program itself.
    pub kernel: &'a [u8],
}

/// The image as bytes.
///
/// # Errors
/// [`PeError`], also when the kernel is not an EFI program.
pub fn build(uki: &Uki<'_>) -> Result<Vec<u8>, PeError> {
    let plain = |name, data: &[u8]| Section { name, data: data.to_vec(), memory: 0, code: false };
    // The kernel comes last: it unpacks itself in place, and nothing may lie behind it.
    let kernel = Section {
        name: ".linux",
        data: uki.kernel.to_vec(),
        memory: pe::memory_size(uki.kernel)?,
        code: true,
    };
    let sections = [
        plain(".osrel", uki.os_release.as_bytes()),
        plain(".cmdline", uki.command_line.as_bytes()),
        plain(".uname", uki.kernel_release.as_bytes()),
        plain(".initrd", uki.initrd),
        kernel,
    ];
    pe::append(uki.stub, &sections)
}
