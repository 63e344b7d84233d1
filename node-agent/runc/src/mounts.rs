//! Mounts as the container is to have them, prepared in the mount namespace of the node, as trees that are nowhere yet:
//! propagation, mapped ids, paths that a stranger has chosen.
//!
//! Everything is done by descriptor: a path that was resolved is never resolved again (CVE-2021-30465).
#![expect(unsafe_code, reason = "mount_setattr(2) has no safe wrapper")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use anyhow::{Context as _, bail};
use ingot_linux::beneath::{self, Kind};
use ingot_runc_api::{Create, Mappings, Mount, MountSource, Propagation};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::spec::{self, Spec};
use crate::userns;

/// A tree of mounts that is nowhere yet.
pub(crate) struct Detached(OwnedFd);

/// Changes of a mount, as `struct mount_attr` has them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const READ_ONLY: u64 = 0x1;
const ID_MAPPED: u64 = 0x10_0000;
const SHARED: u64 = 1 << 20;
const SLAVE: u64 = 1 << 19;
const PRIVATE: u64 = 1 << 18;

/// Options of a mount that are none of its file system, by name.
const OPTIONS: &[(&str, u64)] = &[
    ("ro", READ_ONLY),
    ("nosuid", 0x2),
    ("nodev", 0x4),
    ("noexec", 0x8),
    ("strictatime", 0x20),
    // How it is without a word.
    ("rw", 0),
    ("relatime", 0),
    ("rbind", 0),
    ("newinstance", 0),
];

impl Attributes {
    /// What of the options is about the mount, and the options of its file system.
    pub(crate) fn from_options(options: &[String]) -> anyhow::Result<(Self, Vec<&str>)> {
        let mut attributes = Self::default();
        let mut others = Vec::new();
        for option in options {
            match OPTIONS.iter().find(|(name, _)| name == option) {
                Some((_, set)) => attributes.set |= set,
                None if option.contains('=') => others.push(option.as_str()),
                None => bail!("a mount option {option:?}"),
            }
        }
        Ok((attributes, others))
    }

    /// For fsmount(2).
    pub(crate) fn at_mount(self) -> MountAttrFlags {
        MountAttrFlags::from_bits_retain(u32::try_from(self.set).unwrap_or(u32::MAX))
    }
}

impl From<Detached> for OwnedFd {
    fn from(mount: Detached) -> Self {
        mount.0
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Detached {
    fn from(mount: OwnedFd) -> Self {
        Self(mount)
    }
}

impl Detached {
    /// The tree below what `of` was opened on, with all mounts in it.
    pub(crate) fn of(of: impl AsFd) -> anyhow::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        Ok(Self(rustix::mount::open_tree(of, "", flags).context("copy the mount")?))
    }

    /// The one mount that shows `path`, without what is mounted in it.
    pub(crate) fn of_path(path: &Path) -> anyhow::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, path, flags)
            .with_context(|| format!("copy the mount of {}", path.display()))?;
        Ok(Self(tree))
    }

    fn change(&self, attributes: Attributes, recursive: bool) -> std::io::Result<()> {
        let at = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: the descriptor is open, the path is an empty C string, and `attributes` is laid out as the kernel's
        // `mount_attr` of exactly that size; the kernel only reads them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                at,
                &raw const attributes,
                size_of::<Attributes>(),
            )
        };
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Ids of the files are mapped as `namespace` maps them.
    pub(crate) fn map_ids(&self, namespace: &OwnedFd) -> anyhow::Result<()> {
        let user_namespace = u64::try_from(namespace.as_raw_fd()).context("descriptor")?;
        let attributes = Attributes { set: ID_MAPPED, user_namespace, ..Attributes::default() };
        self.change(attributes, false).context("map the ids of its files")
    }

    fn propagate(&self, propagation: Propagation) -> anyhow::Result<()> {
        let propagation = match propagation {
            Propagation::Private => PRIVATE,
            Propagation::Slave => SLAVE,
            Propagation::Shared => SHARED,
        };
        let attributes = Attributes { propagation, ..Attributes::default() };
        self.change(attributes, true).context("set its propagation")
    }

    pub(crate) fn forbid_writes(&self, recursive: bool) -> anyhow::Result<()> {
        let attributes = Attributes { set: READ_ONLY, ..Attributes::default() };
        self.change(attributes, recursive).context("make it read-only")
    }

    /// Puts it on `at`, which is there.
    pub(crate) fn attach(&self, at: &Path) -> anyhow::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&self.0, "", CWD, at, flags)
            .with_context(|| format!("attach a mount to {}", at.display()))
    }
}

/// The sources of all mounts of `request` but images, in the mount namespace of the node: there a copy still belongs to those
/// to which mounts travel.
pub(crate) fn open_all(request: &Create) -> anyhow::Result<Vec<Option<Detached>>> {
    let mut all = Vec::with_capacity(request.mounts.len());
    for mount in &request.mounts {
        let opened = open(&mount.source).with_context(|| format!("open {}", name(mount)))?;
        if let Some(opened) = &opened {
            prepare(opened, mount, request).with_context(|| format!("prepare {}", name(mount)))?;
        }
        all.push(opened);
    }
    Ok(all)
}

/// What the spec mounts of the node itself, under the number of its mount: the three small files in /etc, /dev/shm, or all of
/// /sys. What of a mount is in the stage is one of the request's, found by [`number_of`].
pub(crate) fn open_plain(spec: &Spec, request: &Create) -> anyhow::Result<Vec<Option<Detached>>> {
    let open = |mount: &spec::Mount| {
        if mount.kind != "bind" || number_of(mount, request).is_some() {
            return Ok(None);
        }
        plain(mount).map(Some).with_context(|| format!("open {}", mount.source.display()))
    };
    spec.mounts.iter().map(open).collect()
}

/// The number of the request's mount that a mount of the spec stands for.
pub(crate) fn number_of(mount: &spec::Mount, request: &Create) -> Option<usize> {
    let name = mount.source.strip_prefix(&request.stage).ok()?;
    name.to_str()?.parse().ok().filter(|number| *number < request.mounts.len())
}

fn plain(mount: &spec::Mount) -> anyhow::Result<Detached> {
    let tree = Detached::of(&host(&mount.source)?)?;
    // "rro" closes to writes all that is mounted below, too.
    let (below, here): (Vec<String>, Vec<String>) =
        mount.options.iter().cloned().partition(|option| option == "rro");
    let (mut attributes, others) = Attributes::from_options(&here)?;
    if let Some(other) = others.first() {
        bail!("a mount option {other:?}");
    }
    if !below.is_empty() {
        attributes.set |= READ_ONLY;
    }
    if attributes != Attributes::default() {
        tree.change(attributes, !below.is_empty()).context("set its attributes")?;
    }
    tree.propagate(Propagation::Private)?;
    Ok(tree)
}

/// For errors.
fn name(mount: &Mount) -> String {
    match &mount.source {
        MountSource::Host(path) => path.display().to_string(),
        MountSource::Inside { root, sub_path, .. } => root.join(sub_path).display().to_string(),
        MountSource::Image { sub_path, .. } => format!("path {:?} of an image", sub_path),
    }
}

fn open(source: &MountSource) -> anyhow::Result<Option<Detached>> {
    let found = match source {
        MountSource::Image { .. } => return Ok(None),
        MountSource::Host(path) => host(path)?,
        MountSource::Inside { root, sub_path, make } => {
            let root = beneath::folder(root).context("open the folder of the volume")?;
            inside(&root, sub_path, *make)?
        }
    };
    Detached::of(&found).map(Some)
}

/// A path of the node, made as a folder when absent.
fn host(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => {
            std::fs::create_dir_all(path).context("make the folder")?;
            rustix::fs::open(path, flags, Mode::empty()).context("open the folder made")
        }
        opened => opened.context("open"),
    }
}

/// A path below a folder, without ever leaving it; made as folders when absent (CVE-2024-45310).
pub(crate) fn inside(root: &OwnedFd, path: &Path, make: bool) -> anyhow::Result<OwnedFd> {
    if path.as_os_str().is_empty() {
        return root.try_clone().context("keep the folder");
    }
    match beneath::resolve(root, path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && make => {}
        found => return found.context("resolve"),
    }
    let mut done = std::path::PathBuf::new();
    for part in path.components() {
        let Component::Normal(part) = part else { continue };
        // The folder above as it is now, by descriptor: whoever swaps it for a link gains nothing.
        let above = if done.as_os_str().is_empty() {
            root.try_clone().context("keep the folder")?
        } else {
            beneath::resolve(root, &done).context("resolve")?
        };
        match rustix::fs::mkdirat(&above, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).context("make a folder"),
        }
        done.push(part);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve).context("open the folder made")
}

/// Everything that is said about a mount.
fn prepare(detached: &Detached, mount: &Mount, request: &Create) -> anyhow::Result<()> {
    if let Some(mappings) = &mount.mappings {
        detached.map_ids(&namespace_of(mappings, request)?)?;
    }
    if mount.read_only {
        detached.forbid_writes(mount.recursive_read_only)?;
    }
    detached.propagate(mount.propagation)
}

/// The pod's own user namespace when it has these ids, else one that exists for the mount alone.
fn namespace_of(mappings: &Mappings, request: &Create) -> anyhow::Result<OwnedFd> {
    match &request.user {
        Some(user) if user.mappings == *mappings => {
            rustix::fs::open(&user.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .context("open the user namespace of the pod")
        }
        _ => userns::for_mounts(mappings).context("make a user namespace for the mount"),
    }
}

/// The trees of all mounts: those that were opened, and images, which are mounted here. This process is in a mount namespace
/// of its own by now.
pub(crate) fn complete(
    request: &Create,
    opened: Vec<Option<Detached>>,
) -> anyhow::Result<Vec<Detached>> {
    let mut trees = Vec::with_capacity(opened.len());
    for (number, (mount, opened)) in request.mounts.iter().zip(opened).enumerate() {
        trees.push(match opened {
            Some(opened) => opened,
            None => image(mount, request, number)
                .and_then(|image| prepare(&image, mount, request).map(|()| image))
                .with_context(|| format!("prepare {}", name(mount)))?,
        });
    }
    Ok(trees)
}

/// Whether an image has to be mounted somewhere before a part of it can be used.
pub(crate) fn needs_stage(request: &Create) -> bool {
    request.mounts.iter().any(Mount::needs_stage)
}

/// Puts a tree into the stage, and says where. Whoever enters a user namespace then takes it from there: what the node has
/// forbidden of it is locked by that (a read-only mount could be made writable otherwise).
pub(crate) fn put_aside(tree: &Detached, stage: &Path, name: &str) -> anyhow::Result<()> {
    let at = stage.join(name);
    if is_folder(tree)? { std::fs::create_dir(&at) } else { std::fs::File::create(&at).map(drop) }
        .with_context(|| format!("make {}", at.display()))?;
    tree.attach(&at)
}

/// Takes a copy of what was put aside.
pub(crate) fn take_again(stage: &Path, name: &str) -> anyhow::Result<Detached> {
    let at = stage.join(name);
    let found = rustix::fs::open(&at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", at.display()))?;
    Detached::of(&found)
}

fn is_folder(of: impl AsFd) -> anyhow::Result<bool> {
    Ok(beneath::kind(of).context("look at a mount")? == Kind::Folder)
}

/// The files of an image, or what is below a path in it.
fn image(mount: &Mount, request: &Create, number: usize) -> anyhow::Result<Detached> {
    let MountSource::Image { layers, sub_path } = &mount.source else { bail!("no image") };
    let whole = match layers.as_slice() {
        [] => bail!("the image has no files"),
        [only] => Detached::of_path(only)?,
        layers => Detached(read_only_overlay(layers)?),
    };
    if sub_path.as_os_str().is_empty() {
        return Ok(whole);
    }
    // Only what is mounted somewhere can be copied in part.
    let at = request.stage.join(format!("{number}.image"));
    std::fs::create_dir(&at).with_context(|| format!("make {}", at.display()))?;
    whole.attach(&at)?;
    let root = beneath::folder(&at).context("open the image")?;
    Detached::of(inside(&root, sub_path, false)?)
}

fn read_only_overlay(layers: &[std::path::PathBuf]) -> anyhow::Result<OwnedFd> {
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("open overlayfs")?;
    for layer in layers {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", layer.as_path())
            .with_context(|| format!("add layer {}", layer.display()))?;
    }
    mount(context, MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// The mount that a file system context stands for.
pub(crate) fn mount(context: OwnedFd, attributes: MountAttrFlags) -> anyhow::Result<OwnedFd> {
    rustix::mount::fsconfig_create(&context).context("create the file system")?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .context("mount the file system")
}

#[cfg(test)]
mod tests;
