//! Images that attack the node that runs them: what their configuration says and where their links lead. The suite `attacks` of
//! qemu-tests runs them; layers that attack the unpacking are tested where layers are unpacked.

use super::oci::{Compression, Files, Layer, Layout, Start};

/// Descriptors of a runtime that a link of an image is tried with.
const DESCRIPTORS: std::ops::RangeInclusive<u32> = 3..=20;

/// Far enough up that a runtime that resolves it outside the container reaches the node's root.
const UP: &str = "../../../../../../../../../..";

/// Writes them all, each on top of `base`.
pub(crate) fn write(layout: &mut Layout, base: &Layer) -> anyhow::Result<()> {
    let shell = Start { command: &["sleep", "100000"], ..Start::default() };
    for (name, path) in [("proc-link", "proc"), ("sys-link", "sys"), ("dev-link", "dev")] {
        let mut files = Files::default();
        files.symlink(path, &format!("{UP}/run/ingot/attack-{path}"));
        files.directory("fake/self/attr", 0o777).file("fake/self/attr/exec", 0o666, "");
        image(layout, base, name, &files, &shell)?;
    }
    let mut files = Files::default();
    for number in DESCRIPTORS {
        files.symlink(&format!("fd{number}"), &format!("/proc/self/fd/{number}"));
    }
    for file in ["hosts", "hostname", "resolv.conf"] {
        files.symlink(&format!("etc/{file}"), &format!("{UP}/run/ingot/attack-{file}"));
    }
    files.symlink("out", &format!("/{UP}/run/ingot/attack-out"));
    files.symlink("etc/mtab", &format!("{UP}/run/ingot/attack-mtab"));
    files.file("run-me", 0o755, "#!/proc/self/exe\n");
    image(layout, base, "links", &files, &shell)?;
    let nothing = Files::default();
    let start = Start { working_dir: "/proc/self/fd/7", ..shell };
    image(layout, base, "workdir", &nothing, &start)?;
    let start = Start { user: "4294967296", ..shell };
    image(layout, base, "user-wrap", &nothing, &start)?;
    let start = Start { user: "2147483648:2147483648", ..shell };
    image(layout, base, "user-large", &nothing, &start)?;
    let start = Start {
        volumes: &["/../../../../../../etc", "/proc", "/dev"],
        labels: &[
            ("containerd.io/restart.loguri", "binary:///bin/touch?/run/ingot/attack-label"),
            ("io.containerd.runc.v2.options.binary-name", "/bin/busybox"),
            ("ingot.dev/privileged", "true"),
        ],
        ..shell
    };
    image(layout, base, "config", &nothing, &start)
}

fn image(
    layout: &mut Layout,
    base: &Layer,
    name: &str,
    files: &Files,
    start: &Start<'_>,
) -> anyhow::Result<()> {
    let layer = layout.layer(files, Compression::None)?;
    layout.image(&[&format!("attacks/{name}:1")], &[base.clone(), layer], start)
}
