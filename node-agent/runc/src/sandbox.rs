//! Makes the namespaces that the containers of a pod share, and pins each as a file, so that a pod needs no process.
#![expect(
    unsafe_code,
    reason = "unshare(2) is unsafe in rustix for flags that are not used here; SIOCSIFFLAGS has no safe wrapper"
)]

use std::path::Path;

use anyhow::Context as _;
use ingot_runc_api::{Sandbox, Tmpfs};
use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;

/// Makes and pins the namespaces of `request`.
pub(crate) fn build(request: &Sandbox) -> anyhow::Result<()> {
    for tmpfs in &request.tmpfs {
        mount_tmpfs(tmpfs)?;
    }
    let mut kinds = vec![("ipc", UnshareFlags::NEWIPC), ("uts", UnshareFlags::NEWUTS)];
    if request.network {
        kinds.push(("net", UnshareFlags::NEWNET));
    }
    for (_, flag) in &kinds {
        // SAFETY: this process has one thread; a new IPC, UTS or network namespace does not touch descriptors or
        // memory that other code could rely on.
        unsafe { rustix::thread::unshare_unsafe(*flag) }.context("unshare")?;
    }
    rustix::system::sethostname(request.hostname.as_bytes()).context("set host name")?;
    if request.network {
        loopback_up()?;
    }
    for (name, _) in &kinds {
        pin(name, &request.folder.join(name))?;
    }
    Ok(())
}

fn pin(name: &str, file: &Path) -> anyhow::Result<()> {
    std::fs::File::create(file).with_context(|| format!("create {}", file.display()))?;
    rustix::mount::mount_bind(format!("/proc/self/ns/{name}"), file)
        .with_context(|| format!("pin namespace as {}", file.display()))
}

fn mount_tmpfs(tmpfs: &Tmpfs) -> anyhow::Result<()> {
    let mut options = if tmpfs.sticky { "mode=1777" } else { "mode=0777" }.to_owned();
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
