//! The first process of a container, from its birth to its program. It makes its own root and shuts itself in, gives up what
//! the container may not have, says that it is ready, and waits for the order to begin.
//!
//! It runs as a copy of the helper. Nothing here may return to the helper's code, and the order of the steps is what makes it
//! safe: what is of the node is closed before the working folder or the program are looked at (CVE-2024-21626), and nobody in
//! the container may look into this process (CVE-2016-9962).
#![expect(unsafe_code, reason = "closes descriptors by number, in a process that never goes back")]

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, bail, ensure};
use ingot_linux::pty::{self, Pair};
use ingot_linux::{packet, spawn};
use ingot_runc_api::{Create, Stdio};
use rustix::fs::{CWD, Mode, OFlags, Uid};
use rustix::mount::{FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::UnshareFlags;

use crate::mounts::{self, Detached};
use crate::namespaces::Namespaces;
use crate::place::{self, Make};
use crate::program::Program;
use crate::rights::Rights;
use crate::rootfs::{self, NODES, Trees};
use crate::spec::{RootPropagation, Spec};
use crate::{empty, fork, userns};

/// What the process tells the helper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Its pid, where that is not the number that the helper has.
    Born(i32),
    /// It waits for its start. Its terminal comes along.
    Ready,
    /// It cannot become the program, and why.
    Failed(String),
}

/// Longest reason.
const REASON_LENGTH_MAX: usize = 2000;

impl Said {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, text) = match self {
            Self::Born(pid) => (b'b', pid.to_string()),
            Self::Ready => (b'r', String::new()),
            Self::Failed(reason) => (b'f', reason.clone()),
        };
        let text = text.as_bytes();
        [&[kind], text.get(..REASON_LENGTH_MAX).unwrap_or(text)].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, text) = bytes.split_first()?;
        let text = String::from_utf8_lossy(text);
        match kind {
            b'b' => text.parse().ok().map(Self::Born),
            b'r' => Some(Self::Ready),
            b'f' => Some(Self::Failed(text.into_owned())),
            _ => None,
        }
    }
}

/// Longest packet of those.
pub(crate) const SAID_LENGTH_MAX: usize = REASON_LENGTH_MAX + 1;

/// Everything that the process is to be, and all that it needs for that.
pub(crate) struct Init<'a> {
    pub(crate) request: &'a Create,
    pub(crate) spec: &'a Spec,
    pub(crate) namespaces: Namespaces,
    pub(crate) rights: Rights,
    pub(crate) program: Program,
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    pub(crate) umask: u32,
    /// A copy of this becomes its mount namespace; where there is none it has been born in a copy of the node's.
    pub(crate) empty: Option<OwnedFd>,
    /// Trees of the request's mounts and of the spec's own, as [`mounts::open_all`] and [`mounts::open_plain`] give them.
    pub(crate) opened: Vec<Option<Detached>>,
    pub(crate) plain: Vec<Option<Detached>>,
    /// Standard descriptors, as [`Stdio`] says.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The node's /proc.
    pub(crate) proc: OwnedFd,
    /// The cgroup in which the container is born.
    pub(crate) cgroup: OwnedFd,
    /// To the helper.
    pub(crate) channel: OwnedFd,
    /// The order to begin is read from here.
    pub(crate) start: OwnedFd,
    /// Closed when the program is executed; until then, where to say why it cannot be.
    pub(crate) executed: OwnedFd,
}

/// What comes over that which is made here, and where.
type Late = (Detached, String);

/// The root, what comes late, what is mounted before, and what hides folders.
type Made = (OwnedFd, Vec<Late>, Trees, Option<Detached>);

impl Init<'_> {
    /// The work of the copy that the helper makes; in a user namespace it only prepares, and the process is its child.
    pub(crate) fn run(mut self) -> i32 {
        let result = match self.namespaces.user.is_some() {
            true => self.prepare_for_user(),
            false => self.become_container(),
        };
        if let Err(error) = result {
            self.fail(&error);
        }
        spawn::NOT_STARTED
    }

    fn fail(&self, error: &anyhow::Error) {
        // The helper may be gone, and then we are about to be killed.
        let _ = packet::send(&self.channel, &Said::Failed(format!("{error:#}")).encode(), &[]);
    }

    /// As the root of the node: makes what a user namespace could not, has it locked by entering that namespace, and gives
    /// birth to the container there.
    fn prepare_for_user(&mut self) -> anyhow::Result<()> {
        let stage = &self.request.stage;
        self.namespaces.enter()?;
        own_mounts()?;
        mount_stage(self.request)?;
        let overlay = rootfs_overlay(self.request, self.namespaces.user.as_ref())?;
        overlay.attach(&self.request.overlay.merged)?;
        let opened = mounts::complete(self.request, std::mem::take(&mut self.opened))?;
        for (number, tree) in opened.iter().enumerate() {
            mounts::put_aside(tree, stage, &number.to_string())?;
        }
        for (number, tree) in self.plain.iter().enumerate() {
            if let Some(tree) = tree {
                mounts::put_aside(tree, stage, &format!("plain{number}"))?;
            }
        }
        for (name, ..) in NODES {
            let node = Detached::of_path(&std::path::Path::new("/dev").join(name))?;
            mounts::put_aside(&node, stage, &format!("node-{name}"))?;
        }
        self.namespaces.enter_pid()?;
        self.namespaces.enter_user()?;
        userns::unshare(UnshareFlags::NEWNS)?;
        let mut flags = spawn::CLONE_PARENT;
        if self.namespaces.own_pid {
            flags |= spawn::CLONE_NEWPID;
        }
        let cgroup = self.cgroup.try_clone().context("keep the cgroup")?;
        let this = &mut *self;
        let pid = spawn::run_in_child_with(Some(cgroup.as_fd()), flags, || {
            if let Err(error) = userns::become_root().and_then(|()| this.become_container()) {
                this.fail(&error);
            }
            spawn::NOT_STARTED
        })
        .context("start a process in the container")?;
        packet::send(&self.channel, &Said::Born(pid).encode(), &[]).context("tell the pid")
    }

    /// Makes the container around this process, and becomes the program.
    fn become_container(&mut self) -> anyhow::Result<()> {
        let (root, late, trees, empty) = match self.namespaces.user {
            Some(_) => self.take_from_stage()?,
            None => self.make_all()?,
        };
        // Only here: the kernel takes the cgroup that this process is in for the root of the namespace.
        userns::unshare(UnshareFlags::NEWCGROUP)?;
        rustix::process::umask(Mode::empty());
        rootfs::fill(&root, self.spec, trees)?;
        self.make_working_folder(&root)?;
        rootfs::hide(&root, self.spec, empty)?;
        let shared = self.spec.linux.rootfs_propagation == RootPropagation::Shared;
        enter_root(&root, shared)?;
        rustix::process::setsid().context("begin a session")?;
        let terminal = self.stdio()?;
        for (tree, at) in &late {
            rootfs::attach(&root, at, tree).with_context(|| format!("mount on {at}"))?;
        }
        if self.spec.root.readonly {
            Detached::from(root).forbid_writes(false).context("close the root to writes")?;
        }
        if let Err(error) = self.become_program(terminal.as_ref()) {
            self.fail(&error);
        }
        // Descriptors were closed by their numbers: nothing may be dropped.
        fork::end(spawn::NOT_STARTED)
    }

    /// Outside of a user namespace: everything is made, and put in place, by this process.
    fn make_all(&mut self) -> anyhow::Result<Made> {
        self.namespaces.enter()?;
        if self.empty.is_none() {
            own_mounts()?;
        }
        if mounts::needs_stage(self.request) {
            mount_stage(self.request)?;
        }
        // While there are paths of the node: so far these trees are nowhere.
        let overlay = rootfs_overlay(self.request, None)?;
        let opened = mounts::complete(self.request, std::mem::take(&mut self.opened))?;
        let mut hiding = None;
        match &self.empty {
            Some(empty) => {
                empty::copy(empty)?;
                let root = std::path::Path::new("/");
                hiding = Some(Detached::of_path(root)?);
                overlay.attach(root)?;
            }
            None => overlay.attach(&self.request.overlay.merged)?,
        }
        let opened = opened.into_iter().map(Some).collect();
        let plain = std::mem::take(&mut self.plain);
        let (late, of_mounts) = self.sort(opened, plain)?;
        Ok((overlay.into(), late, Trees { of_mounts, of_nodes: Vec::new() }, hiding))
    }

    /// In the user namespace: from the stage, and the root over itself, because what came with the namespace is locked.
    fn take_from_stage(&mut self) -> anyhow::Result<Made> {
        let stage = &self.request.stage;
        let merged = &self.request.overlay.merged;
        let at = rustix::fs::open(merged, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .context("open the root")?;
        let root = Detached::of(&at)?;
        root.attach_to(&at)?;
        let numbers = 0..self.request.mounts.len();
        let opened = numbers.map(|number| mounts::take_again(stage, &number.to_string()).map(Some));
        let opened = opened.collect::<anyhow::Result<_>>()?;
        let plain = std::mem::take(&mut self.plain).into_iter().enumerate();
        let plain = plain.map(|(number, tree)| {
            tree.map(|_| mounts::take_again(stage, &format!("plain{number}"))).transpose()
        });
        let plain = plain.collect::<anyhow::Result<_>>()?;
        let (late, of_mounts) = self.sort(opened, plain)?;
        let nodes = NODES.map(|(name, ..)| {
            mounts::take_again(stage, &format!("node-{name}")).map(|tree| (name, tree))
        });
        let of_nodes = nodes.into_iter().collect::<anyhow::Result<_>>()?;
        Ok((root.into(), late, Trees { of_mounts, of_nodes }, None))
    }

    /// Which tree belongs to which mount of the spec; and those that come over what is made here, with their places.
    fn sort(
        &self,
        mut opened: Vec<Option<Detached>>,
        plain: Vec<Option<Detached>>,
    ) -> anyhow::Result<(Vec<Late>, Vec<Option<Detached>>)> {
        let mut late = Vec::new();
        for (number, at) in &self.request.late {
            let tree = opened.get_mut(*number).and_then(Option::take);
            late.push((tree.context("a mount that is not there")?, at.clone()));
        }
        let mut of_mounts = plain;
        for (mount, place) in self.spec.mounts.iter().zip(&mut of_mounts) {
            if let Some(number) = mounts::number_of(mount, self.request) {
                *place = opened.get_mut(number).and_then(Option::take);
            }
            ensure!(mount.kind != "bind" || place.is_some(), "nothing for {}", mount.destination);
        }
        Ok((late, of_mounts))
    }

    /// Makes the working folder if it is not there. Where that is not possible the program finds out, and says so.
    fn make_working_folder(&self, root: &OwnedFd) -> anyhow::Result<()> {
        use rustix::io::Errno;
        let made = place::find_or_make(root, &self.spec.process.cwd, Make::Folder);
        match made.as_ref().map_err(|e| e.root_cause().downcast_ref::<Errno>()) {
            Ok(_) | Err(Some(&(Errno::ROFS | Errno::ACCESS | Errno::PERM))) => Ok(()),
            Err(_) => made.map(drop).context("make the working folder"),
        }
    }

    /// Puts the standard descriptors in their places. With a terminal that is made here; its master comes back.
    fn stdio(&mut self) -> anyhow::Result<Option<OwnedFd>> {
        let mut descriptors = std::mem::take(&mut self.descriptors);
        let mut master = None;
        match self.request.stdio {
            Stdio::Terminal => {
                let Pair { master: ours, slave } = pty::open().context("make a terminal")?;
                let owner = Uid::from_raw(self.rights.uid);
                rustix::fs::fchown(&slave, Some(owner), None).context("hand over the terminal")?;
                let dev = ingot_linux::beneath::folder(std::path::Path::new("/dev"))
                    .context("open /dev")?;
                let console = place::find_or_make(&dev, "console", Make::File)?;
                Detached::of(&slave)?.attach_to(&console).context("mount /dev/console")?;
                let copy = || slave.try_clone().context("copy the terminal");
                descriptors.extend([copy()?, copy()?, slave]);
                master = Some(ours);
            }
            Stdio::Output => {
                // The container's own: not even this is of the node.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let null = rustix::fs::open("/dev/null", flags, Mode::empty());
                descriptors.insert(0, null.context("open /dev/null")?);
            }
            Stdio::All => {}
        }
        let [stdin, stdout, stderr] = descriptors.as_slice() else {
            bail!("wrong number of descriptors")
        };
        rustix::stdio::dup2_stdin(stdin).context("place standard input")?;
        rustix::stdio::dup2_stdout(stdout).context("place standard output")?;
        rustix::stdio::dup2_stderr(stderr).context("place standard error")?;
        if master.is_some() {
            rustix::process::ioctl_tiocsctty(std::io::stdin())
                .context("take the controlling terminal")?;
        }
        Ok(master)
    }

    /// Gives up everything, says that it is ready, waits, and becomes the program.
    fn become_program(&self, terminal: Option<&OwnedFd>) -> anyhow::Result<()> {
        ingot_linux::exec::default_signals();
        if !self.spec.process.apparmor_profile.is_empty() {
            set_apparmor(&self.proc, &self.spec.process.apparmor_profile)
                .context("set the AppArmor profile")?;
        }
        let mut kept = vec![self.channel.as_raw_fd(), self.start.as_raw_fd()];
        kept.push(self.executed.as_raw_fd());
        kept.extend(terminal.map(|terminal| terminal.as_raw_fd()));
        // SAFETY: this process uses no other descriptor than these and 0 to 2 from here to its end, and what it drops then
        // closes nothing of anybody's.
        unsafe { ingot_linux::exec::close_all_but(&kept) }.context("close descriptors")?;
        let folder = std::path::Path::new(&self.spec.process.cwd);
        // It may be open to root only, or to the user only (a network file system): either is good.
        let entered = enter_working_folder(folder);
        rustix::process::umask(Mode::from_raw_mode(self.umask));
        self.rights.assume()?;
        if entered.is_err() {
            enter_working_folder(folder).context("enter the working folder")?;
        }
        for (resource, limit) in &self.limits {
            rustix::process::setrlimit(*resource, *limit).context("set a limit")?;
        }
        let path = self.program.find().map_err(anyhow::Error::msg)?;
        self.rights.close()?;
        let terminal: Vec<_> = terminal.iter().map(|terminal| terminal.as_fd()).collect();
        packet::send(&self.channel, &Said::Ready.encode(), &terminal).context("say ready")?;
        self.wait_for_start()?;
        let reason = self.program.replace(&path);
        // Nobody reads when the agent is gone; then the exit code is all there is.
        let _ = rustix::io::write(&self.executed, reason.as_bytes());
        Ok(())
    }

    /// Waits until somebody writes into the pipe. There is no deadline: a container may be started whenever its owner likes,
    /// and who gives it up kills it.
    fn wait_for_start(&self) -> anyhow::Result<()> {
        let mut order = [0; 1];
        loop {
            match rustix::io::read(&self.start, &mut order) {
                Err(rustix::io::Errno::INTR) => {}
                read => return read.map(drop).context("wait for the start"),
            }
        }
    }
}

/// From here on what is mounted is seen by us and the container only: when its last process ends, the mounts go away by
/// themselves and nothing can leak.
fn own_mounts() -> anyhow::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("make mounts private")
}

/// Not below a folder that only root may pass: processes of a user namespace look for their mounts here.
fn mount_stage(request: &Create) -> anyhow::Result<()> {
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    rustix::mount::mount("none", &request.stage, "tmpfs", flags, Some(c"mode=755"))
        .context("mount the stage")
}

/// The root file system. In a user namespace the ids of the layers below are mapped; what is written on top has the ids of
/// the node.
fn rootfs_overlay(request: &Create, user: Option<&OwnedFd>) -> anyhow::Result<Detached> {
    let overlay = &request.overlay;
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("open overlayfs")?;
    for (number, layer) in overlay.lower.iter().enumerate() {
        let mut path = layer.clone();
        if let Some(user) = user {
            path = request.stage.join(format!("layer{number}"));
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
    Ok(mounts::mount(context, MountAttrFlags::MOUNT_ATTR_NODEV)?.into())
}

/// Makes it the root, and leaves the node's for good.
fn enter_root(root: &OwnedFd, shared: bool) -> anyhow::Result<()> {
    rustix::process::fchdir(root).context("enter the root")?;
    rustix::process::pivot_root(".", ".").context("make it the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("leave the root of the node")?;
    rustix::process::chdir("/").context("enter the root")?;
    if shared {
        // Like runc: mounts can travel to the node only when those above them can.
        rustix::mount::mount_change("/", MountPropagationFlags::SHARED)
            .context("let mounts travel")?;
    }
    Ok(())
}

fn enter_working_folder(folder: &std::path::Path) -> anyhow::Result<()> {
    rustix::process::chdir(folder).with_context(|| format!("chdir to {}", folder.display()))?;
    // The kernel says "(unreachable)" of a folder that is not below our root.
    let now = rustix::process::getcwd(Vec::new()).context("find the working folder")?;
    ensure!(now.as_bytes().first() == Some(&b'/'), "the working folder is outside the container");
    Ok(())
}

/// Through the node's /proc: what the container has there may be anything.
pub(crate) fn set_apparmor(proc: &OwnedFd, profile: &str) -> std::io::Result<()> {
    let open = |path: &str| {
        rustix::fs::openat(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let file = open("thread-self/attr/apparmor/exec").or_else(|_| open("thread-self/attr/exec"))?;
    rustix::io::write(&file, format!("exec {profile}").as_bytes())?;
    Ok(())
}

/// A pipe in the bundle, open on both sides: nobody has to be on the other one.
pub(crate) fn make_pipe(path: &std::path::Path) -> anyhow::Result<OwnedFd> {
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(CWD, path, fifo, Mode::RUSR | Mode::WUSR, 0)
        .with_context(|| format!("make the pipe {}", path.display()))?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("open the pipe {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for said in [Said::Born(42), Said::Ready, Said::Failed("because".to_owned())] {
            assert_eq!(Said::decode(&said.encode()), Some(said));
        }
        assert_eq!(Said::decode(b""), None);
        assert_eq!(Said::decode(b"bx"), None);
        let long = Said::Failed("x".repeat(3 * REASON_LENGTH_MAX)).encode();
        assert_eq!(long.len(), SAID_LENGTH_MAX);
    }
}
