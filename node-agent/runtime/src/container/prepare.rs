//! Everything that has to exist on disk and in the cgroup tree before the helper is asked for a container.
//!
//! Blocks: it runs where that is allowed.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ingot_images::Image;
use ingot_linux::process::start_time;
use ingot_runc_api::{self as api, Create, Created, Overlay, SECCOMP_FILE, Stdio, UserNamespace};

use super::{ContainerError, RunPaths, User, accounts, skeleton};
use crate::apparmor;
use crate::cdi;
use crate::cgroup::{Cgroup, settings};
use crate::config::{
    ContainerConfig, Mount, MountSource, NamespaceMode, SandboxConfig, SecurityProfile,
};
use crate::context::Context;
use crate::device::{self, Node};
use crate::sandbox;
use crate::spec::{self, Described, Mounts, Profile};

/// Longest seccomp profile of an operator.
const PROFILE_LENGTH_MAX: usize = 1 << 20;

/// What is to be prepared.
pub(super) struct Work {
    pub(super) context: Arc<Context>,
    pub(super) key: String,
    pub(super) sandbox: SandboxConfig,
    pub(super) id: String,
    pub(super) config: ContainerConfig,
    pub(super) image: Image,
    pub(super) mounted: Vec<(String, Vec<PathBuf>)>,
    pub(super) cgroup: Cgroup,
}

/// Folders of a run.
struct Folders {
    run: PathBuf,
    rootfs: PathBuf,
    bundle: PathBuf,
    stage: PathBuf,
    upper: PathBuf,
    work: PathBuf,
}

impl Folders {
    fn new(context: &Context, id: &str) -> Self {
        let RunPaths { run, var, .. } = RunPaths::new(context, id);
        Self {
            rootfs: run.join("rootfs"),
            bundle: run.join("bundle"),
            stage: run.join("stage"),
            upper: var.join("upper"),
            work: var.join("work"),
            run,
        }
    }

    fn make(&self, work: &Work) -> Result<(), ContainerError> {
        let user = work.sandbox.namespaces.user.as_ref();
        // Processes that are not root here pass through on the way to their root.
        let mode = if user.is_some() { 0o711 } else { 0o700 };
        for folder in [&self.run, &self.bundle, &self.work] {
            make_folder(folder, mode)?;
        }
        // The upper folder is the root of what the container sees.
        make_folder(&self.upper, 0o755)?;
        if let Some(user) = user {
            let owner = (Some(user.uids.host_id), Some(user.gids.host_id));
            std::os::unix::fs::chown(&self.upper, owner.0, owner.1)
                .map_err(|source| ContainerError::Prepare { path: self.upper.clone(), source })?;
        }
        Ok(())
    }

    /// Places of the node for mounts, which few containers need: what is nowhere else can be mounted in the container's own root.
    fn make_places(&self, work: &Work, mounts: &Mounts) -> Result<(), ContainerError> {
        if !needs_places(work, mounts) {
            return Ok(());
        }
        let user = work.sandbox.namespaces.user.is_some();
        for folder in [&self.rootfs, &self.stage] {
            make_folder(folder, if user { 0o711 } else { 0o700 })?;
        }
        Ok(())
    }
}

fn needs_places(work: &Work, mounts: &Mounts) -> bool {
    work.sandbox.namespaces.user.is_some() || mounts.staged.iter().any(api::Mount::needs_stage)
}

/// Makes it all, and says what the helper is to do.
pub(super) fn prepare(work: &Work) -> Result<(Create, User), ContainerError> {
    let context = &work.context;
    let folders = Folders::new(context, &work.id);
    folders.make(work)?;
    make_log_folder(work)?;
    let root = &context.paths().cgroup;
    let cgroup = work.cgroup.name(root);
    // Before the cgroup is made: who removes the container finds it here.
    write(&folders.run.join("cgroup"), cgroup.as_bytes())?;
    let lock = folders.run.join("lock");
    write(&lock, b"")?;
    let (config, nodes) = with_devices(work)?;
    let user = find_user(work, &config)?;
    let described = describe(work, &config, &user, &nodes, &folders, &cgroup)?;
    folders.make_places(work, &described.mounts)?;
    write(&folders.bundle.join("config.json"), described.spec.to_string().as_bytes())?;
    write(&folders.bundle.join("env"), &environment(&described))?;
    if let Some(profile) = &described.seccomp {
        put_profile(work, profile, &folders.bundle.join(SECCOMP_FILE))?;
    }
    work.cgroup.create(root, &settings(&config.resources)?)?;
    if !config.security.privileged {
        context.device_rules.set(work.cgroup.path(), &nodes)?;
    }
    let in_user_namespace = work.sandbox.namespaces.user.as_ref().map(|user| UserNamespace {
        path: sandbox::namespaces(context, &work.key).join("user"),
        mappings: spec::mappings(user),
    });
    let stdio = match (config.tty, config.stdin) {
        (true, _) => Stdio::Terminal,
        (false, true) => Stdio::All,
        (false, false) => Stdio::Output,
    };
    let empty = !needs_places(work, &described.mounts);
    let request = Create {
        id: work.id.clone(),
        filters: filters(context),
        lock,
        created: folders.run.join("created.json"),
        overlay: Overlay {
            lower: work
                .image
                .layers
                .iter()
                .cloned()
                .chain([skeleton::folder(context.paths())])
                .collect(),
            upper: folders.upper,
            work: folders.work,
            merged: folders.rootfs,
        },
        stage: folders.stage,
        late: described.mounts.late,
        mounts: described.mounts.staged,
        bundle: folders.bundle,
        empty,
        cgroup: work.cgroup.path().to_owned(),
        user: in_user_namespace,
        stdio,
    };
    Ok((request, user))
}

/// Folder in which the helper keeps filters of system calls.
pub(crate) fn filters(context: &Context) -> PathBuf {
    context.paths().run.join("filters")
}

/// Puts the profile of system calls beside the spec. The default one is the same text for nearly all: it is kept once for as long as
/// the node runs, and one more name of that file costs less than the text.
fn put_profile(work: &Work, profile: &Profile, at: &Path) -> Result<(), ContainerError> {
    let text = profile.text.as_bytes();
    if work.config.security.seccomp != SecurityProfile::RuntimeDefault {
        return write(at, text);
    }
    let folder = work.context.paths().run.join("profiles");
    let kept = folder.join(&profile.digest);
    if std::fs::hard_link(&kept, at).is_ok() {
        return Ok(());
    }
    make_folder(&folder, 0o700)?;
    let new = folder.join(&work.id);
    write(&new, text)?;
    std::fs::rename(&new, &kept)
        .and_then(|()| std::fs::hard_link(&kept, at))
        .map_err(|source| ContainerError::Prepare { path: at.to_owned(), source })
}

fn find_user(work: &Work, config: &ContainerConfig) -> Result<User, ContainerError> {
    let layers = &work.image.layers;
    let (passwd, group) =
        (accounts::read(layers, "etc/passwd")?, accounts::read(layers, "etc/group")?);
    let accounts = spec::Accounts { passwd: &passwd, group: &group };
    Ok(spec::find_user(&config.security, &work.image.config.user, accounts)?)
}

/// The container with what CDI adds to it, and the nodes of its devices. In a user namespace nobody can make nodes: those
/// of the node are mounted.
fn with_devices(work: &Work) -> Result<(ContainerConfig, Vec<Node>), ContainerError> {
    let mut config = work.config.clone();
    if !config.cdi_devices.is_empty() {
        let registry = cdi::Registry::read(cdi::FOLDERS)?;
        registry.apply(&mut config)?;
    }
    let mut nodes = device::find(&config.devices)?;
    if config.security.privileged {
        let mut all = device::all()?;
        all.retain(|node| !nodes.iter().any(|n| n.container_path == node.container_path));
        nodes.append(&mut all);
    }
    let mount = work.sandbox.namespaces.user.is_some();
    for node in &nodes {
        if mount || !node.container_path.starts_with("/dev") {
            config.mounts.push(Mount {
                container_path: node.container_path.display().to_string(),
                source: MountSource::Host(node.host_path.clone()),
                ..Mount::default()
            });
        }
    }
    Ok((config, nodes))
}

fn describe(
    work: &Work,
    config: &ContainerConfig,
    user: &User,
    nodes: &[Node],
    folders: &Folders,
    cgroup: &str,
) -> Result<Described, ContainerError> {
    let (context, key) = (&work.context, &work.key);
    let in_user_namespace = work.sandbox.namespaces.user.is_some();
    let made = |node: &&Node| !in_user_namespace && node.container_path.starts_with("/dev");
    let made: Vec<Node> = nodes.iter().filter(made).cloned().collect();
    let target = target_pid(work)?;
    let profile = seccomp_profile(&config.security.seccomp)?;
    let described = spec::build(&spec::Input {
        sandbox: &work.sandbox,
        config,
        image: &work.image.config,
        user,
        rootfs: &folders.rootfs,
        cgroup,
        namespaces: &sandbox::namespaces(context, key),
        target_pid: target.as_deref(),
        etc: &sandbox::etc(context, key),
        shm: &sandbox::shm(context, key),
        volumes: &sandbox::volumes(context, key),
        stage: &folders.stage,
        images: &work.mounted,
        devices: &made,
        apparmor: apparmor::profile_of(config)?,
        seccomp: profile.as_deref(),
    })?;
    Ok(described)
}

/// The PID namespace of the container whose processes this one is to see. Its first process must be the one that was made:
/// a pid alone may be anybody's by now.
fn target_pid(work: &Work) -> Result<Option<PathBuf>, ContainerError> {
    let NamespaceMode::Target(id) = &work.config.namespaces.pid else { return Ok(None) };
    let none = || ContainerError::NoTarget { id: id.clone() };
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(none());
    }
    let path = RunPaths::new(&work.context, id).run.join("created.json");
    let bytes = std::fs::read(path).map_err(|_| none())?;
    let created: Created = serde_json::from_slice(&bytes).map_err(|_| none())?;
    if start_time(created.pid).ok() != Some(created.start_time) {
        return Err(none());
    }
    Ok(Some(format!("/proc/{}/ns/pid", created.pid).into()))
}

fn seccomp_profile(profile: &SecurityProfile) -> Result<Option<String>, ContainerError> {
    let SecurityProfile::Localhost(path) = profile else { return Ok(None) };
    let path = PathBuf::from(path);
    let failed = |source| ContainerError::Seccomp { path: path.clone(), source };
    if !path.is_absolute() {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    }
    let root = ingot_linux::beneath::folder(Path::new("/")).map_err(failed)?;
    let bytes = ingot_linux::beneath::read(&root, &path, PROFILE_LENGTH_MAX).map_err(failed)?;
    String::from_utf8(bytes).map(Some).map_err(|e| failed(std::io::Error::other(e)))
}

/// The environment with a zero byte behind each variable.
fn environment(described: &Described) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in &described.environment {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value);
        bytes.push(0);
    }
    bytes
}

/// The folder of the log, which must be below the pod's (CVE-2025-0750).
fn make_log_folder(work: &Work) -> Result<(), ContainerError> {
    let Some(folder) =
        log_path(&work.sandbox, &work.config)?.and_then(|p| p.parent().map(Path::to_owned))
    else {
        return Ok(());
    };
    make_folder(&folder, 0o755)
}

/// The log file of a container, when it has one.
pub(crate) fn log_path(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
) -> Result<Option<PathBuf>, ContainerError> {
    let Some(folder) = sandbox.log_directory.as_ref().filter(|_| !config.log_path.is_empty())
    else {
        return Ok(None);
    };
    let path = Path::new(&config.log_path);
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !normal || !folder.is_absolute() || config.log_path.contains('\0') {
        return Err(ContainerError::LogPath { path: config.log_path.clone() });
    }
    Ok(Some(folder.join(path)))
}

fn make_folder(path: &Path, mode: u32) -> Result<(), ContainerError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| ContainerError::Prepare { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ContainerError> {
    // Environments hold secrets; whoever got a folder of the node mounted must not read them.
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written =
        options.open(path).and_then(|mut file| std::io::Write::write_all(&mut file, bytes));
    written.map_err(|source| ContainerError::Prepare { path: path.to_owned(), source })
}
