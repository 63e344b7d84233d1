//! Builds a container with `libcontainer`, up to the point where it waits for its start.
//!
//! It must not decide anything: the spec is in the bundle, the cgroup with its limits exists already.
#![expect(unsafe_code, reason = "unshare(2) is unsafe in rustix for flags that are not used here")]

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, bail};
use ingot_runc_api::{Create, Created, Overlay};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use crate::bpf_devices;

/// Builds the container of `request`; `descriptors` are its standard output and standard error.
pub(crate) fn build(request: &Create, descriptors: Vec<OwnedFd>) -> anyhow::Result<Created> {
    let Ok([stdout, stderr]) = <[OwnedFd; 2]>::try_from(descriptors) else {
        bail!("a container needs exactly two descriptors");
    };
    // Held until we exit. Our children do not inherit this kind of lock, so it says whether *this* process still works.
    let _lock = take_lock(&request.lock)?;
    mount_overlay(&request.overlay)?;
    if !request.all_devices {
        bpf_devices::attach(&request.cgroup).context("set the device rules")?;
    }
    let stdin = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("open /dev/null")?;
    let container = ContainerBuilder::new(request.id.clone(), SyscallType::default())
        .with_root_path(request.state_root.clone())
        .context("state folder")?
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr)
        .validate_id()
        .context("container id")?
        .as_init(&request.bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .context("libcontainer")?;
    let Some(pid) = container.pid() else { bail!("libcontainer names no process") };
    let pid = pid.as_raw();
    let start_time = start_time(pid)?;
    let created = Created { pid, start_time };
    write_by_rename(&request.created, &serde_json::to_vec(&created).context("write result")?)?;
    Ok(created)
}

/// Takes the lock, and makes sure that the agent has not given up on us in the meantime: then it has removed the file.
fn take_lock(path: &Path) -> anyhow::Result<OwnedFd> {
    let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("open lock file")?;
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).context("lock")?;
    if rustix::fs::fstat(&file).context("stat lock file")?.st_nlink == 0 {
        bail!("the agent has given up on this container");
    }
    Ok(file)
}

/// Mounts the root file system where only we and the container see it: when the container's last process ends, the
/// mount goes away by itself and nothing can leak.
fn mount_overlay(overlay: &Overlay) -> anyhow::Result<()> {
    // SAFETY: this process has one thread and shares no file system state with another, so giving it its own mount
    // namespace surprises nobody.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context("unshare mounts")?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .context("make mounts private")?;
    let mut options = Vec::new();
    for (key, path) in [
        ("lowerdir=", &overlay.lower),
        (",upperdir=", &overlay.upper),
        (",workdir=", &overlay.work),
    ] {
        let path = path.to_str().context("overlay path is not UTF-8")?;
        // The kernel splits at these; none of our own paths has them.
        if path.contains([',', ':', '\\']) {
            bail!("overlay path {path} holds a character that overlayfs splits at");
        }
        options.extend_from_slice(key.as_bytes());
        options.extend_from_slice(path.as_bytes());
    }
    let options = std::ffi::CString::new(options).context("overlay options")?;
    rustix::mount::mount(
        "overlay",
        &overlay.merged,
        "overlay",
        MountFlags::NODEV,
        Some(options.as_c_str()),
    )
    .with_context(|| format!("mount overlay on {}", overlay.merged.display()))
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
