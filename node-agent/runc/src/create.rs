//! Builds a container with `libcontainer`, up to the point where it waits for its start.
//!
//! It must not decide anything: the spec is in the bundle, the cgroup with its limits exists already.

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ingot_runc_api::{Create, Created, Overlay, Stdio};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::UnshareFlags;

use crate::console::Console;
use crate::executor::Executor;
use crate::mounts::{self, Detached};
use crate::rights::Rights;
use crate::{bpf_devices, lock, userns};

/// Files a process of a container may have open, as the spec has it.
const OPEN_FILES: u64 = 524_288;

/// Builds the container of `request`; `descriptors` as [`Stdio`] says. With a terminal its master comes back.
pub(crate) fn build(
    request: &Create,
    descriptors: Vec<OwnedFd>,
) -> anyhow::Result<(Created, Option<OwnedFd>)> {
    let _lock = lock::take(&request.lock)?;
    let (bundle, rights) = bundle(request).context("read the description")?;
    let opened = mounts::open_all(request)?;
    let user = user_namespace(request)?;
    own_mounts()?;
    if !request.mounts.is_empty() || user.is_some() {
        // Not below a folder that only root may pass: processes of a user namespace look for their mounts here.
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount("none", &request.stage, "tmpfs", flags, Some(c"mode=755"))
            .context("mount the stage")?;
    }
    mounts::stage(request, opened)?;
    mount_overlay(&request.overlay, user.as_ref(), &request.stage)?;
    mounts::make_working_dir(request).context("make the working folder")?;
    if let Some(devices) = &request.devices {
        bpf_devices::attach(&request.cgroup, devices).context("set the device rules")?;
    }
    let console = match request.stdio {
        Stdio::Terminal => Some(Console::listen(&request.stage)?),
        Stdio::Output | Stdio::All => None,
    };
    let executor = Executor::new(&request.bundle, rights)?;
    let pid = run_libcontainer(request, &bundle, executor, descriptors, console.as_ref())?;
    mounts::attach_late(request, pid).context("mount over the container's folders")?;
    let created = Created { pid, start_time: start_time(pid)? };
    write_by_rename(&request.created, &serde_json::to_vec(&created).context("write result")?)?;
    Ok((created, console.map(Console::master).transpose()?))
}

/// The bundle for libcontainer, whose spec says nothing of what we do ourselves, and that.
fn bundle(request: &Create) -> anyhow::Result<(PathBuf, Rights)> {
    let spec = std::fs::read(request.bundle.join("config.json")).context("read config.json")?;
    let mut spec = serde_json::from_slice(&spec).context("understand config.json")?;
    let rights = Rights::take(&mut spec, &request.filters)?;
    let bundle = request.bundle.join("libcontainer");
    // What is in it is as secret as what it was made of.
    let mut folder = std::fs::DirBuilder::new();
    folder.mode(0o700).create(&bundle).context("make its folder")?;
    let spec = serde_json::to_vec(&spec).context("write the rest")?;
    std::fs::write(bundle.join("config.json"), spec).context("write the rest")?;
    Ok((bundle, rights))
}

fn run_libcontainer(
    request: &Create,
    bundle: &Path,
    executor: Executor,
    descriptors: Vec<OwnedFd>,
    console: Option<&Console>,
) -> anyhow::Result<i32> {
    let mut builder = ContainerBuilder::new(request.id.clone(), SyscallType::default())
        .with_root_path(request.state_root.clone())
        .context("state folder")?
        .with_executor(executor)
        .with_console_socket(console.map(Console::path));
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().context("a descriptor of the container is missing");
    builder = match request.stdio {
        Stdio::Terminal => builder,
        Stdio::All => builder.with_stdin(next()?).with_stdout(next()?).with_stderr(next()?),
        Stdio::Output => builder.with_stdin(null()?).with_stdout(next()?).with_stderr(next()?),
    };
    if descriptors.next().is_some() {
        bail!("more descriptors than a container has");
    }
    let container = builder
        .validate_id()
        .context("container id")?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .context("libcontainer")?;
    let Some(pid) = container.pid() else { bail!("libcontainer names no process") };
    Ok(pid.as_raw())
}

fn null() -> anyhow::Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("open /dev/null")
}

/// The pod's user namespace. Its processes may not raise their limits, so this one does it for them.
fn user_namespace(request: &Create) -> anyhow::Result<Option<OwnedFd>> {
    let Some(user) = &request.user else { return Ok(None) };
    let limit = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    rustix::process::setrlimit(Resource::Nofile, limit).context("raise the limit of files")?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(&user.path, flags, Mode::empty())
        .map(Some)
        .context("open the user namespace of the pod")
}

/// From here on what is mounted is seen by us and the container only: when its last process ends, the mounts go away by
/// themselves and nothing can leak.
fn own_mounts() -> anyhow::Result<()> {
    userns::unshare(UnshareFlags::NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("make mounts private")
}

/// Mounts the root file system. In a user namespace the ids of the layers below are mapped; what is written on top has the
/// ids of the node.
fn mount_overlay(overlay: &Overlay, user: Option<&OwnedFd>, stage: &Path) -> anyhow::Result<()> {
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("open overlayfs")?;
    for (number, layer) in overlay.lower.iter().enumerate() {
        let mut path = layer.clone();
        if let Some(user) = user {
            path = stage.join(format!("layer{number}"));
            std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
            let mapped = Detached::of_path(layer)?;
            mapped.map_ids(user)?;
            mapped.attach(&path)?;
        }
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", path.as_path())
            .with_context(|| format!("add layer {}", layer.display()))?;
    }
    for (key, path) in [("upperdir", &overlay.upper), ("workdir", &overlay.work)] {
        rustix::mount::fsconfig_set_string(&context, key, path.as_path())
            .with_context(|| format!("set {key} {}", path.display()))?;
    }
    // Nobody reads this layer after a loss of power, so nobody waits for it to be on the disk.
    rustix::mount::fsconfig_set_flag(&context, "volatile").context("set volatile")?;
    let root = mounts::mount(context, MountAttrFlags::MOUNT_ATTR_NODEV)?;
    Detached::from(root).attach(&overlay.merged)
}

/// Field 22 of /proc/PID/stat. The command name in field 2 may hold anything, so count from its last parenthesis.
fn start_time(pid: i32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    text.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .with_context(|| format!("understand {path}"))
}

fn write_by_rename(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).with_context(|| format!("write {}", new.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("rename to {}", path.display()))
}
