//! The container runtime we are compared with, as a machine that can be talked to: Debian with containerd, runc and crun, the
//! standard network plugins, and a relay for its CRI. The same kernel file as ours, no initrd.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ingot_image_builder::progress::Progress;
use ingot_image_builder::tools::Tools;
use ingot_image_builder::write::cpio;
use ingot_qemu_tests::artifacts::{Artifacts, Image};
use ingot_qemu_tests::cri::RELAY_PORT;
use ingot_qemu_tests::machine::{Firmware, Machine, MachineBuilder};
use ingot_qemu_tests::registry::Registry;

use super::{disk, peer};

/// Beside what the idle peer has. WHEN CHANGING: delete `target/bench/containerd`.
const PACKAGES: &[&str] = &["crun", "containernetworking-plugins", "iptables", "apparmor"];

/// Where containerd listens.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Configuration as somebody would write it who wants it fast: cgroups without asking systemd, one bridge, one mirror
/// for everything. The mirror's address comes from the kernel command line, because the registry has another port each time.
const FILES: &[(&str, &str)] = &[
    (
        "etc/containerd/config.toml",
        "version = 2\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"mirror.test/pause:3.10\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/usr/lib/cni\"\n  conf_dir = \"/etc/cni/net.d\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  default_runtime_name = \"runc\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun]\n  runtime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun.options]\n  BinaryName = \"/usr/bin/crun\"\n",
    ),
    (
        "etc/cni/net.d/10-bridge.conflist",
        r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
"#,
    ),
    ("etc/systemd/network/10-all.network", "[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n"),
    (
        "etc/systemd/system/test-mirror.service",
        "[Unit]\nBefore=containerd.service\n[Service]\nType=oneshot\nExecStart=/usr/bin/bash -c \"\
         for word in $(</proc/cmdline); do case $$word in test.mirror=*) \
         printf '[host.\\\"%%s\\\"]\\n  capabilities = [\\\"pull\\\", \\\"resolve\\\"]\\n' $${word#test.mirror=} \
         >/etc/containerd/certs.d/_default/hosts.toml ;; esac; done\"\n",
    ),
    ("etc/containerd/certs.d/_default/hosts.toml", ""),
    ("etc/sysctl.d/10-forward.conf", "net.ipv4.ip_forward = 1\n"),
];

/// Services that are started.
const SERVICES: &[(&str, &str)] = &[
    ("systemd-networkd.service", "/usr/lib/systemd/system/systemd-networkd.service"),
    ("test-mirror.service", "/etc/systemd/system/test-mirror.service"),
    ("test-relay.service", "/etc/systemd/system/test-relay.service"),
];

/// Links that the packages' alternatives would have made.
const LINKS: &[(&str, &str)] =
    &[("usr/sbin/iptables", "xtables-nft-multi"), ("usr/sbin/ip6tables", "xtables-nft-multi")];

/// The image of the machine, built when there is none or the relay's program changed.
pub(crate) fn image(
    tools: &Tools,
    progress: &dyn Progress,
    directory: &Path,
    workload: &Path,
    kernel: &Path,
    command_line: &str,
) -> anyhow::Result<Image> {
    let directory = directory.join("containerd");
    let tree = directory.join("root");
    peer::unpack(tools, progress, PACKAGES, &directory)?;
    for (path, text) in FILES {
        write(&tree.join(path), text)?;
    }
    let relay = format!(
        "[Unit]\nAfter=containerd.service\n[Service]\nRestart=always\n\
         ExecStart=/usr/sbin/test-workload relay {RELAY_PORT} {SOCKET}\n"
    );
    write(&tree.join("etc/systemd/system/test-relay.service"), &relay)?;
    for (name, target) in SERVICES {
        let link = tree.join("etc/systemd/system/multi-user.target.wants").join(name);
        if link.symlink_metadata().is_err() {
            symlink(target, link)?;
        }
    }
    for (name, target) in LINKS {
        let link = tree.join(name);
        if link.symlink_metadata().is_err() {
            symlink(target, link)?;
        }
    }
    fs_err::copy(workload, tree.join("usr/sbin/test-workload"))?;
    peer::mark_updated(&tree)?;
    disk::ext4(tools, &tree, &directory.join("disk.raw"))?;
    replace_with_link(kernel, &directory.join("vmlinuz"))?;
    fs_err::write(directory.join("initrd.img"), cpio::write(&[]))?;
    fs_err::write(
        directory.join("cmdline"),
        format!(
            "{command_line} root=/dev/nvme0n1 rootfstype=ext4 rw init=/usr/lib/systemd/systemd \
             systemd.getty_auto=0"
        ),
    )?;
    Image::find(&directory)
}

/// A machine of that image whose mirror is `registry`.
pub(crate) fn machine(artifacts: &Artifacts, image: &Image, registry: &Registry) -> MachineBuilder {
    Machine::builder(&artifacts.with_image(image.clone()), "containerd")
        .firmware(Firmware::Direct)
        .nvme()
        .memory_mib(2048)
        .forward(RELAY_PORT)
        .cmdline_extra(&format!("test.mirror={}", registry.guest_url()))
}

fn write(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    Ok(fs_err::write(path, text)?)
}

fn replace_with_link(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs_err::remove_file(to)?;
    }
    Ok(fs_err::hard_link(from, to)?)
}
