//! The container images that critest, crictl and the benches use, made from Debian packages and our own test program. They stand
//! for images that a test without the internet cannot pull: the same names, users, programs and ports, other bytes.
//!
//! Names carry no registry host: the node reaches all of them through one mirror (`qemu-tests/src/registry.rs`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use ingot_image_builder::progress::{Progress, Silent};
use ingot_image_builder::tools::{Lock, LockMode, Package, Tools};

use super::cri_tools::CriTools;
use super::hostile;
use super::oci::{Compression, Files, Layer, Layout, Start};
use crate::workspace;

/// Packages whose files are in the images. WHEN CHANGING: also [`VERSION`], or old images stay in use.
const PACKAGES: &[&str] = &[
    "busybox",
    "busybox-static",
    "libc6",
    "nginx",
    "libcrypt1",
    "libpcre2-8-0",
    "libssl3t64",
    "libzstd1",
    "zlib1g",
    "util-linux",
    "apparmor",
    "bsdutils",
];

/// The most that a layer of the large image holds, unpacked; there is less in one of the three folders: 200 MiB together.
const LARGE_LAYER_MIB: u64 = 90;

/// Changes whenever the recipes below do.
const VERSION: u32 = 8;

/// Users of all images: those that critest asks for by name.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n\
                      default-user:x:1000:1000::/var/lib/default-user:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\ndefault-user:x:1000:\n\
                     group-defined-in-image:x:50000:default-user\nnogroup:x:65534:\n";

/// Applets that Debian leaves out of its busybox.
const PGREP: &str = "#!/bin/sh\n# Prints the ids of processes whose name contains the word.\n\
                     found=1\nfor directory in /proc/[0-9]*; do\n\
                     read -r name 2>/dev/null <$directory/comm || continue\n\
                     case $name in *$1*) echo ${directory#/proc/}; found=0 ;; esac\ndone\nexit $found\n";
const IPCS: &str = "#!/bin/sh\n# Prints the shared memory segments of this IPC namespace.\n\
                    echo '------ Shared Memory Segments --------'\necho 'key shmid owner perms bytes'\n\
                    tail -n +2 /proc/sysvipc/shm\n";

/// nginx in the foreground, on one port.
fn nginx_config(port: u16) -> String {
    format!(
        "user root;\ndaemon off;\npid /var/run/nginx.pid;\nerror_log /dev/stderr;\nevents {{}}\n\
         http {{\n  access_log off;\n  server {{\n    listen {port};\n    \
         location / {{ return 200 \"Welcome to nginx!\\n\"; }}\n  }}\n}}\n"
    )
}

/// What images are made from.
#[derive(Debug)]
pub(crate) struct Ingredients<'a> {
    /// Our own static test program.
    pub(crate) workload: &'a Path,
    /// Our own client of the CRI that measures.
    pub(crate) load: &'a Path,
    /// Our own go-between for critest and a CRI that is killed now and then.
    pub(crate) retry: &'a Path,
    /// critest and crictl, where they could be had.
    pub(crate) cri_tools: Option<&'a CriTools>,
    /// A Debian system for a large image.
    pub(crate) large: Option<&'a Path>,
}

/// The same, with the packages.
struct Parts {
    packages: Vec<Package>,
    /// Our own static test program.
    workload: PathBuf,
    /// Our own client of the CRI that measures.
    load: PathBuf,
    /// Our own go-between for critest and a CRI that is killed now and then.
    retry: PathBuf,
    /// critest and crictl, where they could be had.
    cri_tools: Option<CriTools>,
    large: Option<PathBuf>,
}

/// Writes all images as one OCI layout into `directory`. Cheap when nothing changed.
pub(crate) fn ensure(
    directory: &Path,
    tools: &Tools,
    from: &Ingredients<'_>,
    progress: &dyn Progress,
) -> anyhow::Result<()> {
    let packages = packages(tools, progress)?;
    let parts = Parts {
        packages,
        workload: from.workload.to_owned(),
        load: from.load.to_owned(),
        retry: from.retry.to_owned(),
        cri_tools: from.cri_tools.cloned(),
        large: from.large.map(Path::to_owned),
    };
    let stamp = parts.stamp()?;
    let stamp_file = directory.join("stamp");
    if fs_err::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    progress.step("writing the container images of the tests");
    let mut layout = Layout::create(directory)?;
    parts.write(&mut layout)?;
    layout.finish()?;
    Ok(fs_err::write(stamp_file, stamp)?)
}

/// The packages, unpacked. Those of the node's images as their lock says, so that nothing is downloaded twice; the others in the
/// version that was newest when this checkout first needed them.
fn packages(tools: &Tools, progress: &dyn Progress) -> anyhow::Result<Vec<Package>> {
    let own_file = workspace::target().join("tools/test-images.lock");
    let mut lock = Lock::read(&workspace::root().join("configs/images/packages.lock"))?;
    lock.packages.extend(Lock::read(&own_file)?.packages);
    let names: Vec<String> = PACKAGES.iter().map(|name| (*name).to_owned()).collect();
    progress.step("getting the packages for the tests' container images");
    // Nobody has to know that tests use packages that no image is made of.
    let packages = tools.packages(&names, &lock, LockMode::Prefer, &Silent)?;
    let used = packages.iter().map(|package| package.locked.clone()).collect();
    Lock { packages: used }.write(&own_file)?;
    Ok(packages)
}

impl Parts {
    /// Text that is another one whenever any image would be.
    fn stamp(&self) -> anyhow::Result<String> {
        let mut text = format!("{VERSION}\n");
        for package in &self.packages {
            text.push_str(&format!("{} {}\n", package.locked.name, package.locked.sha256));
        }
        for program in [&self.workload, &self.load, &self.retry] {
            let (digest, _) = ingot_image_builder::digest::of_file(program)?;
            text.push_str(&format!("{digest}\n"));
        }
        if let Some(tools) = &self.cri_tools {
            text.push_str(&format!("\n{}\n", tools.critest.display()));
        }
        Ok(text)
    }

    fn write(&self, layout: &mut Layout) -> anyhow::Result<()> {
        let base = layout.layer(&self.busybox()?, Compression::Gzip)?;
        let busybox = std::slice::from_ref(&base);
        let shell = Start { command: &["sh"], ..Start::default() };
        layout.image(&["e2e-test-images/busybox:1.29-2"], busybox, &shell)?;
        self.web_servers(layout, &base)?;
        self.users(layout, busybox)?;
        numbered(layout, &base)?;
        hostile::write(layout, &base)?;
        self.small(layout)?;
        if let Some(system) = &self.large {
            large(layout, system)?;
        }
        self.runner(layout, &base)
    }

    /// Images for which only the name or the number of images matters, each with a file of its own.
    fn small(&self, layout: &mut Layout) -> anyhow::Result<()> {
        let mut files = Files::default();
        files.copy("pause", 0o755, &self.workload)?;
        let pause = layout.layer(&files, Compression::Gzip)?;
        let start = Start { entrypoint: &["/pause", "sleep"], ..Start::default() };
        layout.image(&["pause:3.9"], std::slice::from_ref(&pause), &start)?;
        // For the sandboxes of a runtime that needs an image for them; another image than the one above, which does the same.
        let sandbox = Start { labels: &[("used", "for sandboxes")], ..start };
        layout.image(&["pause:3.10"], &[pause], &sandbox)?;
        let mut files = Files::default();
        files.copy("workload", 0o755, &self.workload)?;
        files.file("etc/passwd", 0o644, PASSWD).file("etc/group", 0o644, GROUP);
        let workload = layout.layer(&files, Compression::Gzip)?;
        let start = Start { entrypoint: &["/workload"], ..Start::default() };
        layout.image(&["ingot/test-workload:latest"], &[workload], &start)?;
        // Set-user-ID: what it prints shows whether that had an effect.
        let mut files = Files::default();
        files.copy("nnp", 0o4755, &self.workload)?;
        let set_user_id = layout.layer(&files, Compression::Gzip)?;
        let start = Start { entrypoint: &["/nnp", "effective-uid"], ..Start::default() };
        layout.image(&["e2e-test-images/nonewprivs:1.3"], &[set_user_id], &start)
    }

    fn web_servers(&self, layout: &mut Layout, base: &Layer) -> anyhow::Result<()> {
        let mut files =
            self.libraries(&["libcrypt1", "libpcre2-8-0", "libssl3t64", "libzstd1", "zlib1g"])?;
        files.copy("usr/sbin/nginx", 0o755, &self.package("nginx")?.join("usr/sbin/nginx"))?;
        for directory in ["var/log/nginx", "var/lib/nginx", "var/run", "run", "usr/share/nginx"] {
            files.directory(directory, 0o755);
        }
        let server = layout.layer(&files, Compression::Gzip)?;
        let start = Start { command: &["/usr/sbin/nginx"], ..Start::default() };
        for (name, port) in [
            ("e2e-test-images/nginx:1.14-2", 80),
            ("k8s-staging-cri-tools/hostnet-nginx-amd64:latest", 12003),
        ] {
            let mut files = Files::default();
            files.file("etc/nginx/nginx.conf", 0o644, nginx_config(port));
            let config = layout.layer(&files, Compression::None)?;
            layout.image(&[name], &[base.clone(), server.clone(), config], &start)?;
        }
        let mut files = Files::default();
        files.file("www/index.html", 0o644, "It works!\n");
        let pages = layout.layer(&files, Compression::Gzip)?;
        let serve = "echo httpd is listening; exec httpd -f -p 80 -h /www";
        let start = Start { command: &["sh", "-c", serve], ..Start::default() };
        layout.image(&["e2e-test-images/httpd:2.4.39-4"], &[base.clone(), pages], &start)
    }

    fn users(&self, layout: &mut Layout, busybox: &[Layer]) -> anyhow::Result<()> {
        for (name, user) in [
            ("test-image-user-uid", "1002"),
            ("test-image-user-username", "www-data"),
            ("test-image-user-uid-group", "1003:1004"),
            ("test-image-user-username-group", "www-data:1004"),
            ("test-image-predefined-group", "1000"),
        ] {
            let name = format!("k8s-staging-cri-tools/{name}:latest");
            let start = Start { user, command: &["sh"], ..Start::default() };
            layout.image(&[&name], busybox, &start)?;
        }
        Ok(())
    }

    /// The image that critest and crictl run in, on the node: with the programs of a node that they call.
    fn runner(&self, layout: &mut Layout, base: &Layer) -> anyhow::Result<()> {
        let mut files = Files::default();
        files.copy("usr/bin/ipcmk", 0o755, &self.package("util-linux")?.join("usr/bin/ipcmk"))?;
        files.copy("usr/bin/script", 0o755, &self.package("bsdutils")?.join("usr/bin/script"))?;
        let parser = self.package("apparmor")?.join("usr/sbin/apparmor_parser");
        files.copy("usr/sbin/apparmor_parser", 0o755, &parser)?;
        for folder in ["etc/apparmor", "etc/apparmor.d", "usr/share/apparmor-features"] {
            files.copy_tree(folder, &self.package("apparmor")?.join(folder))?;
        }
        files.file("usr/bin/sudo", 0o755, "#!/bin/sh\nexec \"$@\"\n");
        files.file(
            "etc/crictl.yaml",
            0o644,
            "runtime-endpoint: unix:///run/ingot/cri.sock\nimage-endpoint: unix:///run/ingot/cri.sock\n",
        );
        let system = layout.layer(&files, Compression::Gzip)?;
        let mut files = Files::default();
        files.copy("usr/bin/cri-load", 0o755, &self.load)?;
        files.copy("usr/bin/cri-retry", 0o755, &self.retry)?;
        if let Some(tools) = &self.cri_tools {
            files.copy("usr/bin/critest", 0o755, &tools.critest)?;
            files.copy("usr/bin/crictl", 0o755, &tools.crictl)?;
        }
        // Uncompressed: emulated processors are slow at the rest already.
        let programs = layout.layer(&files, Compression::None)?;
        let start = Start { command: &["sleep", "100000"], ..Start::default() };
        layout.image(&["ingot/critest:latest"], &[base.clone(), system, programs], &start)
    }

    /// busybox with all its applets, and the users.
    fn busybox(&self) -> anyhow::Result<Files> {
        let package = self.package("busybox-static")?;
        let program = ["usr/bin/busybox", "bin/busybox"].map(|path| package.join(path));
        let program =
            program.iter().find(|path| path.is_file()).context("no busybox in its package")?;
        let applets = workspace::output(Command::new(program).arg("--list"))?;
        ensure!(applets.lines().any(|line| line == "sh"), "busybox has no shell: {applets}");
        let mut files = self.libraries(&["libc6"])?;
        files.copy("bin/busybox", 0o755, program)?;
        for (name, script) in [("pgrep", PGREP), ("ipcs", IPCS)] {
            files.file(&format!("bin/{name}"), 0o755, script);
        }
        // A file of its own: one spec hides it, and the others must stay.
        files.copy("bin/ls", 0o755, program)?;
        // The static shell runs applets itself, whatever is at their paths; the other one runs the programs.
        files.copy("bin/sh", 0o755, &self.package("busybox")?.join("usr/bin/busybox"))?;
        let own = ["busybox", "pgrep", "ipcs", "ls", "sh"];
        for applet in applets.lines().filter(|name| !own.contains(name)) {
            files.symlink(&format!("bin/{applet}"), "busybox");
        }
        files.file("etc/passwd", 0o644, PASSWD).file("etc/group", 0o644, GROUP);
        for directory in ["dev", "proc", "root", "sys", "home/default-user", "var/www", "usr/bin"] {
            files.directory(directory, 0o755);
        }
        files.directory("tmp", 0o1777);
        Ok(files)
    }

    /// The libraries of packages, where Debian has them.
    fn libraries(&self, names: &[&str]) -> anyhow::Result<Files> {
        let mut files = Files::default();
        for name in names {
            let from = self.package(name)?.join("usr/lib/x86_64-linux-gnu");
            let library = |name: &str| name.contains(".so");
            files.copy_directory("usr/lib/x86_64-linux-gnu", &from, library)?;
        }
        files.symlink("lib", "usr/lib").symlink("lib64", "usr/lib64");
        let loader = "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
        files.symlink("usr/lib64/ld-linux-x86-64.so.2", loader);
        Ok(files)
    }

    /// The folder of an unpacked package.
    fn package(&self, name: &str) -> anyhow::Result<&Path> {
        let package = self.packages.iter().find(|package| package.locked.name == name);
        Ok(&package.with_context(|| format!("the package {name} was not unpacked"))?.dir)
    }
}

/// A large image in as many layers as images of the world have, of the files that a Debian system has.
fn large(layout: &mut Layout, system: &Path) -> anyhow::Result<()> {
    let mut layers = Vec::new();
    for folder in ["usr/lib", "usr/bin", "usr/share"] {
        let mut files = Files::default();
        let mut left = LARGE_LAYER_MIB << 20;
        files.copy_some(folder, &system.join(folder), &mut left)?;
        layers.push(layout.layer(&files, Compression::Gzip)?);
    }
    layout.image(&["ingot/large:latest"], &layers, &Start::default())
}

/// Images that differ by one file, and one image under three tags.
fn numbered(layout: &mut Layout, base: &Layer) -> anyhow::Result<()> {
    let all: [&[&str]; 7] = [
        &["test-image-latest:latest"],
        &["test-image-tag:test", "test-image-tag:all"],
        &["test-image-digest:latest"],
        &["test-image-1:latest"],
        &["test-image-2:latest"],
        &["test-image-3:latest"],
        &["test-image-tags:1", "test-image-tags:2", "test-image-tags:3"],
    ];
    for names in all {
        let mut files = Files::default();
        files.file(names[0].split(':').next().unwrap_or_default(), 0o644, names[0]);
        let layer = layout.layer(&files, Compression::Gzip)?;
        let names: Vec<String> =
            names.iter().map(|name| format!("k8s-staging-cri-tools/{name}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let start = Start { command: &["sh"], ..Start::default() };
        layout.image(&names, &[base.clone(), layer], &start)?;
    }
    Ok(())
}
