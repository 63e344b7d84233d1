//! The floor: the kernel with a PID 1 that does nothing but report the time. No boot with this kernel can be shorter.

use super::guest::Guest;
use super::ingot::Ingot;
use super::{Bench, disk};

/// The machine, with our image's kernel and our image's arguments for it.
pub(super) fn guest(bench: &Bench, ingot: &Ingot) -> anyhow::Result<Guest> {
    let initrd = bench.directory.join("floor.cpio");
    disk::initramfs(&bench.probe()?, &initrd)?;
    Ok(Guest {
        name: "floor".to_owned(),
        kernel: ingot.kernel.clone(),
        initrd: Some(initrd),
        command_line: ingot.kernel_arguments(),
        disk: None,
    })
}
