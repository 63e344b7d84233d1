//! The system we are compared with: Debian with systemd and containerd, on the same kernel file and the same kind of
//! disk. Built from packages without root; what their maintainer scripts would have written is written here by hand.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use ingot_image_builder::progress::Progress;
use ingot_image_builder::tools::{Lock, LockMode, Tools};

use super::guest::Guest;
use super::ingot::Ingot;
use super::{Bench, disk};
use crate::workspace;

/// What somebody installs who wants a small Debian node for containers.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "libpam-systemd",
    "containerd",
    "runc",
    "kmod",
    "liblzma5",
    "mount",
    "e2fsprogs",
    "util-linux",
    "bash",
    "coreutils",
    "libc-bin",
    "login",
    "base-files",
    "base-passwd",
];

/// Package of the kernel that every measured system boots.
const KERNEL: &str = "linux-image-cloud-amd64";

/// The configuration the packages' scripts would have made, as (path, text).
const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "peer\n"),
    ("etc/hosts", "127.0.0.1 localhost peer\n"),
    ("etc/fstab", "/dev/nvme0n1 / ext4 defaults 0 1\n"),
    ("etc/machine-id", "00112233445566778899aabbccddeeff\n"),
    ("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
    ("etc/adjtime", "0.0 0 0.0\n0\nUTC\n"),
    ("etc/resolv.conf", ""),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
    (
        "usr/share/ingot/bench/plan",
        "pid1 /usr/lib/systemd/systemd\ncri /run/containerd/containerd.sock\nidle 60\n",
    ),
];

/// Symbolic links the scripts would have made, as (path, target).
const LINKS: &[(&str, &str)] = &[
    ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
    (
        "etc/systemd/system/multi-user.target.wants/containerd.service",
        "/usr/lib/systemd/system/containerd.service",
    ),
    ("etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
    ("usr/bin/sh", "bash"),
];

/// Directory of the kernel package's modules, and the kernel's release.
fn modules(tools: &Tools, progress: &dyn Progress) -> anyhow::Result<(PathBuf, String)> {
    let lock = Lock::read(&workspace::root().join("configs/images/packages.lock"))?;
    let packages = tools.packages(&[KERNEL.to_owned()], &lock, LockMode::Prefer, progress)?;
    let package = packages.first().context("the kernel package was not unpacked")?;
    let modules = package.dir.join("usr/lib/modules");
    let entry =
        fs_err::read_dir(&modules)?.next().context("the kernel package has no modules")??;
    Ok((modules, entry.file_name().to_string_lossy().into_owned()))
}

/// The peer as a machine; builds its disk when there is none, or when the probe changed.
pub(super) fn guest(bench: &Bench, ingot: &Ingot) -> anyhow::Result<Guest> {
    let directory = bench.directory.join("peer");
    let tree = directory.join("root");
    unpack(&bench.tools, &bench.progress, &[], &directory)?;
    fs_err::copy(bench.probe()?, tree.join("usr/sbin/ingot-bench-init"))?;
    mark_updated(&tree)?;
    let image = directory.join("disk.img");
    disk::ext4(&bench.tools, &tree, &image)?;
    Ok(Guest {
        name: "peer".to_owned(),
        kernel: ingot.kernel.clone(),
        initrd: None,
        command_line: format!(
            "{} root=/dev/nvme0n1 rootfstype=ext4 rw init=/usr/sbin/ingot-bench-init \
             systemd.getty_auto=0",
            ingot.kernel_arguments()
        ),
        disk: Some((image, false)),
    })
}

/// Makes `directory/root` hold the peer's system with some more packages. Does nothing when it does.
pub(super) fn unpack(
    tools: &Tools,
    progress: &dyn Progress,
    more: &[&str],
    directory: &Path,
) -> anyhow::Result<()> {
    if directory.join("complete").exists() {
        return Ok(());
    }
    if directory.exists() {
        fs_err::remove_dir_all(directory)?;
    }
    let tree = directory.join("root");
    fs_err::create_dir_all(&tree)?;
    let packages: Vec<&str> = PACKAGES.iter().chain(more).copied().collect();
    tools.unpack_closure(&packages, &tree, progress)?;
    configure(tools, progress, &tree)?;
    Ok(fs_err::write(directory.join("complete"), "")?)
}

/// Does what the maintainer scripts of the packages would have done, as far as this system needs it.
fn configure(tools: &Tools, progress: &dyn Progress, tree: &Path) -> anyhow::Result<()> {
    for (path, text) in FILES {
        let path = tree.join(path);
        fs_err::create_dir_all(path.parent().unwrap_or(tree))?;
        fs_err::write(path, text)?;
    }
    for (path, target) in LINKS {
        let path = tree.join(path);
        fs_err::create_dir_all(path.parent().unwrap_or(tree))?;
        if path.symlink_metadata().is_err() {
            symlink(target, &path).with_context(|| format!("link {}", path.display()))?;
        }
    }
    fs_err::copy(tree.join("usr/share/base-passwd/passwd.master"), tree.join("etc/passwd"))?;
    fs_err::copy(tree.join("usr/share/base-passwd/group.master"), tree.join("etc/group"))?;
    let (modules, release) = modules(tools, progress)?;
    workspace::run(Command::new("cp").arg("-a").arg(modules).arg(tree.join("usr/lib")))?;
    workspace::run(inside(tree, "depmod").arg("-b").arg(tree).arg(&release))?;
    // The only program of the tree that is static.
    workspace::run(Command::new(tree.join("usr/sbin/ldconfig")).arg("-r").arg(tree))?;
    // Users of dbus and systemd.
    workspace::run(inside(tree, "systemd-sysusers").arg("--root").arg(tree))
}

/// A program of the peer, run with the peer's own loader and libraries.
fn inside(tree: &Path, program: &str) -> Command {
    let directories = ["usr/bin", "usr/sbin"].map(|directory| tree.join(directory).join(program));
    let path = directories.into_iter().find(|path| path.exists()).unwrap_or_default();
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    let search = format!("{0}:{0}/systemd", libraries.display());
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(search).arg("--argv0").arg(program).arg(path);
    command
}

/// Tells systemd that `/etc` and `/var` belong to this `/usr`, as after any boot but the first.
pub(super) fn mark_updated(tree: &Path) -> anyhow::Result<()> {
    for path in ["etc/.updated", "var/.updated"] {
        fs_err::write(tree.join(path), "")?;
    }
    Ok(())
}
