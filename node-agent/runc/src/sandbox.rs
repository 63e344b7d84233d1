//! Makes the namespaces that the containers of a pod share, and pins each as a file, so that a pod needs no process.
#![expect(unsafe_code, reason = "SIOCSIFFLAGS has no safe wrapper")]

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::Context as _;
use ingot_runc_api::{Sandbox, Tmpfs};
use rustix::mount::MountFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::{lock, reaper, userns};

/// A kind of namespace: name of its file, what makes it, what enters it.
type Kind = (&'static str, UnshareFlags, LinkNameSpaceType);

/// Makes and pins the namespaces of `request`.
pub(crate) fn build(request: &Sandbox) -> anyhow::Result<()> {
    let _lock = lock::take(&request.lock)?;
    for tmpfs in &request.tmpfs {
        mount_tmpfs(tmpfs)?;
    }
    let user = make(request)?;
    // From here on this process is in the namespaces, with all rights of the node.
    if let Some(hostname) = &request.hostname {
        rustix::system::sethostname(hostname.as_bytes()).context("set host name")?;
    }
    if request.network {
        loopback_up()?;
    }
    for (name, ..) in kinds(request) {
        pin(&format!("/proc/self/ns/{name}"), &request.folder.join(name))?;
    }
    if let Some(cgroup) = &request.pid {
        let first = reaper::start(cgroup, user.as_ref()).context("start the first process")?;
        pin(&format!("/proc/{}/ns/pid", first.as_raw_nonzero()), &request.folder.join("pid"))?;
    }
    Ok(())
}

fn kinds(request: &Sandbox) -> Vec<Kind> {
    let all = [
        (request.ipc, ("ipc", UnshareFlags::NEWIPC, LinkNameSpaceType::InterProcessCommunication)),
        (
            request.hostname.is_some(),
            ("uts", UnshareFlags::NEWUTS, LinkNameSpaceType::HostNameAndNISDomainName),
        ),
        (request.network, ("net", UnshareFlags::NEWNET, LinkNameSpaceType::Network)),
    ];
    all.into_iter().filter_map(|(wanted, kind)| wanted.then_some(kind)).collect()
}

/// Makes the namespaces and enters them; those of a user namespace, which is returned, are made in it and belong to it.
fn make(request: &Sandbox) -> anyhow::Result<Option<OwnedFd>> {
    let kinds = kinds(request);
    let flags = kinds.iter().fold(UnshareFlags::empty(), |all, (_, flag, _)| all | *flag);
    let Some(mappings) = &request.user else {
        userns::unshare(flags)?;
        return set_all(request).map(|()| None);
    };
    // Parameters of the IPC namespace can be set only by the root of the user namespace that owns it.
    let copy = userns::make(mappings, flags, || set_all(request))?;
    for (name, _, kind) in &kinds {
        let namespace = userns::open(&copy, name)?;
        move_into_link_name_space(namespace.as_fd(), Some(*kind))
            .with_context(|| format!("enter the {name} namespace"))?;
    }
    let file = format!("/proc/{}/ns/user", copy.pid().as_raw_nonzero());
    pin(&file, &request.folder.join("user"))?;
    userns::open(&copy, "user").map(Some)
}

fn pin(namespace: &str, file: &Path) -> anyhow::Result<()> {
    std::fs::File::create(file).with_context(|| format!("create {}", file.display()))?;
    rustix::mount::mount_bind(namespace, file)
        .with_context(|| format!("pin namespace as {}", file.display()))
}

fn mount_tmpfs(tmpfs: &Tmpfs) -> anyhow::Result<()> {
    let mut options = format!("mode={:o}", tmpfs.mode);
    if let Some(size) = tmpfs.size_bytes {
        options.push_str(&format!(",size={size}"));
    }
    let options = std::ffi::CString::new(options).context("tmpfs options")?;
    rustix::mount::mount(
        "tmpfs",
        &tmpfs.path,
        "tmpfs",
        MountFlags::NODEV | MountFlags::NOSUID,
        Some(options.as_c_str()),
    )
    .with_context(|| format!("mount tmpfs on {}", tmpfs.path.display()))
}

fn set_all(request: &Sandbox) -> anyhow::Result<()> {
    request.sysctls.iter().try_for_each(|(name, value)| set(name, value))
}

/// Sets a kernel parameter of the namespaces that this process is in. The agent has checked that it is one of those.
fn set(name: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let file = std::fs::OpenOptions::new().write(true).open(&path);
    let mut file = file.with_context(|| format!("open {path}"))?;
    std::io::Write::write_all(&mut file, value.as_bytes())
        .with_context(|| format!("write {value:?} to {path}"))
}

/// A new network namespace has its loopback down, and programs that bind to 127.0.0.1 expect it up.
fn loopback_up() -> anyhow::Result<()> {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
            .context("socket")?;
    // SAFETY: an all-zero ifreq is a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(up).context("interface flags")?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: `fd` is open during the call; SIOCSIFFLAGS reads an ifreq, which `request` is, and keeps no pointer.
    let result = unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).context("bring loopback up");
    }
    Ok(())
}
