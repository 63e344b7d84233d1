//! What a container sees as `/`: file systems, mounts, device nodes, and what is hidden of them. Made as the container's own
//! root, before it is entered; every place is found by descriptor and inside.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context as _, bail, ensure};
use ingot_linux::beneath::{self, Kind};
use rustix::fs::{FileType, Gid, Mode, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};

use crate::mounts::{Attributes, Detached};
use crate::place::{self, Make};
use crate::spec::{Device, DeviceKind, Mount, Spec};

/// Nodes that every container has: all may read and write them.
pub(crate) const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links that every container has in /dev.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Trees that were prepared: by the number of a mount in the spec, and of the device nodes where none can be made.
pub(crate) struct Trees {
    pub(crate) of_mounts: Vec<Option<Detached>>,
    pub(crate) of_nodes: Vec<(&'static str, Detached)>,
}

/// Fills the root: all mounts of the spec, then the device nodes.
pub(crate) fn fill(root: &OwnedFd, spec: &Spec, trees: Trees) -> anyhow::Result<()> {
    let mut dev = None;
    for (mount, tree) in spec.mounts.iter().zip(trees.of_mounts) {
        let at = &mount.destination;
        let mounted = match tree {
            Some(tree) => attach(root, at, &tree),
            None => file_system(root, mount).map(|made| dev = made.or(dev.take())),
        };
        mounted.with_context(|| format!("mount on {at}"))?;
    }
    let dev = dev.context("the spec mounts nothing on /dev")?;
    links(&dev)?;
    if trees.of_nodes.is_empty() {
        nodes(&dev, &spec.linux.devices)?;
    } else if let Some(device) = spec.linux.devices.first() {
        bail!("{} cannot be made in a user namespace", device.path);
    }
    for (name, tree) in &trees.of_nodes {
        let at = place::find_or_make(&dev, name, Make::File)?;
        tree.attach_to(&at).with_context(|| format!("mount /dev/{name}"))?;
    }
    Ok(())
}

/// Puts a tree where it belongs.
pub(crate) fn attach(root: &OwnedFd, at: &str, tree: &Detached) -> anyhow::Result<()> {
    let folder = beneath::kind(tree).context("look at what is mounted")? == Kind::Folder;
    let at = place::find_or_make(root, at, if folder { Make::Folder } else { Make::File })?;
    tree.attach_to(&at)
}

/// Mounts a file system of the kernel; that of /dev comes back, to be filled.
fn file_system(root: &OwnedFd, mount: &Mount) -> anyhow::Result<Option<OwnedFd>> {
    let (name, at) = match mount.kind.as_str() {
        // Nothing of the image may stand between a container and what the kernel says of it.
        "proc" | "sysfs" => (mount.kind.as_str(), place::real_folder(root, &mount.destination)?),
        "cgroup" => ("cgroup2", place::real_folder(root, &mount.destination)?),
        // Our nodes are made in it: not where a link of the image leads (CVE-2019-18837, CVE-2026-41579).
        "tmpfs" if mount.destination == "/dev" => ("tmpfs", place::real_folder(root, "/dev")?),
        "tmpfs" | "devpts" | "mqueue" => {
            let at = place::find_or_make(root, &mount.destination, Make::Folder)?;
            (mount.kind.as_str(), at)
        }
        kind => bail!("a file system of the kind {kind:?}"),
    };
    let made = new(name, mount)?;
    made.attach_to(&at)?;
    Ok((mount.destination == "/dev").then(|| made.into()))
}

fn new(name: &str, mount: &Mount) -> anyhow::Result<Detached> {
    let (attributes, others) = Attributes::from_options(&mount.options)?;
    let context = rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)
        .with_context(|| format!("open {name}"))?;
    rustix::mount::fsconfig_set_string(&context, "source", mount.source.as_path())
        .context("name the source")?;
    for option in others {
        let set = match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(&context, key, value),
            None => rustix::mount::fsconfig_set_flag(&context, option),
        };
        set.with_context(|| format!("set {option}"))?;
    }
    rustix::mount::fsconfig_create(&context).context("create the file system")?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let made = rustix::mount::fsmount(&context, flags, attributes.at_mount())
        .context("mount the file system")?;
    Ok(made.into())
}

fn links(dev: &OwnedFd) -> anyhow::Result<()> {
    for (name, to) in LINKS {
        rustix::fs::symlinkat(to, dev, name).with_context(|| format!("link /dev/{name}"))?;
    }
    Ok(())
}

/// Makes the usual nodes, and those of the spec in place of the usual of that name.
fn nodes(dev: &OwnedFd, own: &[Device]) -> anyhow::Result<()> {
    for (name, major, minor) in NODES {
        if !own.iter().any(|device| device.path.strip_prefix("/dev/") == Some(name)) {
            let mode = Mode::from_raw_mode(0o666);
            node(dev, name, FileType::CharacterDevice, mode, rustix::fs::makedev(major, minor))?;
        }
    }
    for device in own {
        let path = device.path.strip_prefix("/dev/");
        let path = path.with_context(|| format!("{} is not in /dev", device.path))?;
        let (above, name) = match path.rsplit_once('/') {
            Some((above, name)) => (place::find_or_make(dev, above, Make::Folder)?, name),
            None => (dev.try_clone().context("keep /dev")?, path),
        };
        let kind = match device.kind {
            DeviceKind::Block => FileType::BlockDevice,
            DeviceKind::Character => FileType::CharacterDevice,
        };
        let number = rustix::fs::makedev(device.major, device.minor);
        node(&above, name, kind, Mode::from_raw_mode(device.file_mode), number)?;
        let owner = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
        rustix::fs::chownat(&above, name, owner.0, owner.1, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("give {} its owner", device.path))?;
    }
    Ok(())
}

fn node(dev: &OwnedFd, name: &str, kind: FileType, mode: Mode, number: u64) -> anyhow::Result<()> {
    rustix::fs::mknodat(dev, name, kind, mode, number)
        .with_context(|| format!("make the node {name}"))
}

/// Hides what the container may not see, and closes to writes what it may only read. What is not there needs neither. `empty` is a
/// folder without anything, which nobody can write to; without one it is made.
pub(crate) fn hide(root: &OwnedFd, spec: &Spec, mut empty: Option<Detached>) -> anyhow::Result<()> {
    for path in &spec.linux.readonly_paths {
        let Some(at) = found(root, path)? else { continue };
        let tree = Detached::of(&at)?;
        tree.forbid_writes(true)?;
        tree.attach_to(&at).with_context(|| format!("close {path} to writes"))?;
    }
    // Our own node in our own tmpfs: whatever the image has there (CVE-2025-31133).
    let null = found(root, "/dev/null")?.context("no /dev/null")?;
    let stat = rustix::fs::fstat(&null).context("look at /dev/null")?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    ensure!(is_null, "/dev/null is something else");
    let mut in_place: Option<Detached> = None;
    for path in &spec.linux.masked_paths {
        let Some(at) = found(root, path)? else { continue };
        let hidden = if beneath::kind(&at).context("look at it")? == Kind::Folder {
            // Only what is in place somewhere can be copied.
            match &in_place {
                Some(hiding) => Detached::of(hiding)?.attach_to(&at),
                None => {
                    let first = empty.take().map_or_else(empty_folder, Ok)?;
                    let attached = first.attach_to(&at);
                    in_place = Some(first);
                    attached
                }
            }
        } else {
            Detached::of(&null)?.attach_to(&at)
        };
        hidden.with_context(|| format!("hide {path}"))?;
    }
    Ok(())
}

fn found(root: &OwnedFd, path: &str) -> anyhow::Result<Option<OwnedFd>> {
    match beneath::resolve(root, std::path::Path::new(path.trim_start_matches('/'))) {
        Ok(at) => Ok(Some(at)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(e) => Err(e).with_context(|| format!("find {path}")),
    }
}

fn empty_folder() -> anyhow::Result<Detached> {
    let context =
        rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).context("open tmpfs")?;
    rustix::mount::fsconfig_set_string(&context, "nr_inodes", "1").context("set its size")?;
    rustix::mount::fsconfig_set_flag(&context, "ro").context("close it to writes")?;
    rustix::mount::fsconfig_create(&context).context("create an empty folder")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let made = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
    Ok(made.context("mount an empty folder")?.into())
}

impl Detached {
    /// Puts it on what `at` was opened on.
    pub(crate) fn attach_to(&self, at: &OwnedFd) -> anyhow::Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(self.as_fd(), "", at, "", flags).context("attach a mount")
    }
}
