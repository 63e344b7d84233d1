//! Puts the root tree together: directories and links every node has, our programs, the few C tools, modules,
//! certificates, bundled container images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::elf;
use crate::kubernetes;
use crate::modules::{self, Module, ModuleSet};
use crate::recipe::{BundledImage, Program, Recipe};
use crate::tools::Package;
use crate::tree::{Content, Tree};

/// Where a file of our own came from.
pub const OWN: &str = "ingot";
/// Where files the builder makes came from.
pub const MADE: &str = "image-builder";

/// Directories every node has: mount points and places others expect. Nothing is written to them on the root itself.
const DIRECTORIES: &[(&str, u32)] = &[
    ("/boot", 0o755),
    ("/dev", 0o755),
    ("/etc/ssl/certs", 0o755),
    ("/opt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/state", 0o700),
    ("/sys", 0o555),
    ("/tmp", 0o755),
    ("/usr/bin", 0o755),
    ("/usr/lib/firmware", 0o755),
    ("/usr/lib/modules", 0o755),
    ("/usr/lib64", 0o755),
    ("/usr/sbin", 0o755),
    ("/usr/share/ingot/images", 0o755),
    ("/var", 0o755),
];

/// Links every node has. The ones into `/run` are for files the agent writes, those into `/var` are where others put network
/// configurations and plugins (CNI), at the paths they expect.
const LINKS: &[(&str, &str)] = &[
    ("/bin", "usr/bin"),
    ("/lib", "usr/lib"),
    ("/lib64", "usr/lib64"),
    ("/sbin", "usr/sbin"),
    ("/etc/cni", "../var/lib/cni/etc"),
    ("/etc/hostname", "../run/ingot/etc/hostname"),
    ("/etc/hosts", "../run/ingot/etc/hosts"),
    ("/etc/mtab", "../proc/self/mounts"),
    ("/etc/os-release", "../usr/lib/os-release"),
    ("/etc/resolv.conf", "../run/ingot/etc/resolv.conf"),
    ("/opt/cni", "../var/lib/cni/opt"),
];

/// Small files every node has. Nobody logs in: the user table is for names in listings.
pub(crate) const FILES: &[(&str, &str)] = &[
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/nonexistent\nnobody:x:65534:65534:nobody:/nonexistent:/nonexistent\n",
    ),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// Two parts want the same path, or a path is bad.
    #[error(transparent)]
    Tree(#[from] crate::tree::TreeError),
    /// A program's libraries.
    #[error(transparent)]
    Elf(#[from] elf::ElfError),
    /// Modules.
    #[error(transparent)]
    Module(#[from] modules::ModuleError),
    /// A program of the recipe is in none of its packages.
    #[error("no package of the recipe has {path}")]
    NoFile {
        /// As the recipe names it.
        path: String,
    },
    /// A file could not be read.
    #[error("cannot read a file for the root")]
    Read {
        /// Why, with the path.
        #[source]
        source: std::io::Error,
    },
}

/// Everything a root is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Directory that relative paths of `recipe.files` start from.
    pub recipe_dir: &'a Path,
    /// Unpacked packages, the kernel's excepted.
    pub packages: &'a [Package],
    /// Name of the kernel's package.
    pub kernel: &'a str,
    /// Its modules.
    pub modules: &'a ModuleSet,
    /// Our programs by name.
    pub binaries: &'a BTreeMap<String, PathBuf>,
    /// Kubernetes, where the recipe takes it.
    pub kubernetes: Option<&'a kubernetes::Built>,
    /// Version of Ingot.
    pub version: &'a str,
}

/// Builds the tree, all but the files that describe it (release and bill of materials).
///
/// # Errors
/// [`RootError`].
pub fn assemble(parts: &Parts<'_>) -> Result<Tree, RootError> {
    let mut tree = Tree::default();
    for (path, target) in LINKS {
        tree.symlink(path, target)?;
    }
    for (path, mode) in DIRECTORIES {
        tree.directory(path, *mode)?;
    }
    for (path, text) in FILES {
        tree.file(path, 0o644, Content::Bytes(text.as_bytes().to_vec()), MADE)?;
    }
    let os_release = os_release(parts.recipe, parts.version);
    tree.file("/usr/lib/os-release", 0o644, Content::Bytes(os_release.into_bytes()), MADE)?;
    for binary in parts.recipe.binaries.iter().filter(|binary| binary.path != "initrd") {
        let from = own(parts, &binary.name)?;
        tree.file(&binary.path, 0o755, Content::Path(from), OWN)?;
    }
    for program in &parts.recipe.programs {
        add_program(&mut tree, "", program, parts.packages)?;
    }
    add_modules(&mut tree, parts)?;
    add_certificates(&mut tree, "", parts.packages)?;
    for file in &parts.recipe.files {
        tree.file(
            &file.path,
            file.mode,
            Content::Path(parts.recipe_dir.join(&file.from)),
            "recipe",
        )?;
    }
    for image in &parts.recipe.images {
        add_image(&mut tree, image, own(parts, &image.name)?)?;
    }
    if let (Some(recipe), Some(built)) = (&parts.recipe.kubernetes, parts.kubernetes) {
        kubernetes::add(&mut tree, recipe, built, parts.packages)?;
    }
    Ok(tree)
}

/// `/usr/lib/os-release`, as the freedesktop manual describes it.
#[must_use]
pub fn os_release(recipe: &Recipe, version: &str) -> String {
    format!(
        "ID=ingot\nNAME=Ingot\nPRETTY_NAME=\"Ingot {version} ({})\"\nVERSION_ID={version}\nIMAGE_ID=ingot-{0}\n\
         IMAGE_VERSION={version}\n",
        recipe.name
    )
}

fn own(parts: &Parts<'_>, name: &str) -> Result<PathBuf, RootError> {
    parts.binaries.get(name).cloned().ok_or_else(|| RootError::NoFile { path: name.to_owned() })
}

/// Adds a program of Debian and its libraries to the root below `top`: the root itself (no text) or that of a container image.
pub(crate) fn add_program(
    tree: &mut Tree,
    top: &str,
    program: &Program,
    packages: &[Package],
) -> Result<(), RootError> {
    let relative = program.path.trim_start_matches('/');
    let holder = packages.iter().find(|package| package.dir.join(relative).is_file());
    let holder = holder.ok_or_else(|| RootError::NoFile { path: program.path.clone() })?;
    let from = holder.dir.join(relative);
    let dirs: Vec<PathBuf> = packages.iter().map(|package| package.dir.clone()).collect();
    let origin = |file: &Path| -> String {
        let package = packages.iter().find(|package| file.starts_with(&package.dir));
        package.map_or_else(|| holder.locked.name.clone(), |package| package.locked.name.clone())
    };
    for (name, file) in elf::closure(&from, &dirs)? {
        let path = if name.starts_with("ld-linux") {
            format!("{top}/usr/lib64/{name}")
        } else {
            format!("{top}/usr/lib/x86_64-linux-gnu/{name}")
        };
        // Several programs share libraries; each is there once.
        if !tree.contains(&path) {
            tree.file(&path, 0o755, Content::Path(file.clone()), &origin(&file))?;
        }
    }
    if let Some(loader) = elf::interpreter(&from)? {
        add_loader(tree, top, &loader, &dirs, &origin)?;
    }
    let configuration = holder.dir.join("etc/mke2fs.conf");
    if program.path.ends_with("/mke2fs") && configuration.exists() {
        let path = format!("{top}/etc/mke2fs.conf");
        tree.file(&path, 0o644, Content::Path(configuration), &holder.locked.name)?;
    }
    let path = format!("{top}{}", program.path);
    tree.file(&path, 0o755, Content::Path(from), &holder.locked.name)?;
    for link in &program.links {
        let target = program.path.rsplit('/').next().unwrap_or_default();
        tree.symlink(&format!("{top}{link}"), target)?;
    }
    Ok(())
}

/// The dynamic loader, under `/usr/lib64`, where `/lib64` points to.
fn add_loader(
    tree: &mut Tree,
    top: &str,
    loader: &str,
    dirs: &[PathBuf],
    origin: &dyn Fn(&Path) -> String,
) -> Result<(), RootError> {
    let name = loader.rsplit('/').next().unwrap_or(loader);
    let path = format!("{top}/usr/lib64/{name}");
    if tree.contains(&path) {
        return Ok(());
    }
    let places = dirs.iter().map(|dir| dir.join("usr/lib/x86_64-linux-gnu").join(name));
    let from = places.into_iter().find(|path| path.is_file());
    let from = from.ok_or_else(|| RootError::NoFile { path: loader.to_owned() })?;
    let origin = origin(&from);
    tree.file(&path, 0o755, Content::Path(from), &origin)?;
    Ok(())
}

fn add_modules(tree: &mut Tree, parts: &Parts<'_>) -> Result<(), RootError> {
    let set = parts.modules;
    let wanted = &parts.recipe.modules;
    let selection: Vec<&Module> = set.select(&wanted.include, &wanted.exclude)?;
    let dir = format!("/usr/lib/modules/{}", set.release);
    for module in &selection {
        for file in set.files(module) {
            let from = Content::Path(set.dir.join(&file));
            tree.file(&format!("{dir}/{file}"), 0o644, from, parts.kernel)?;
        }
    }
    let made = [
        ("modules.dep", set.dep_text(&selection)),
        ("modules.alias", modules::alias_text(&selection)),
        ("modules.softdep", modules::softdep_text(&selection)),
    ];
    for (name, text) in made {
        tree.file(&format!("{dir}/{name}"), 0o644, Content::Bytes(text.into_bytes()), MADE)?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo"] {
        let from = Content::Path(set.dir.join(name));
        tree.file(&format!("{dir}/{name}"), 0o644, from, parts.kernel)?;
    }
    Ok(())
}

/// All certificates of the package in one file, in the order of their names.
pub(crate) fn add_certificates(
    tree: &mut Tree,
    top: &str,
    packages: &[Package],
) -> Result<(), RootError> {
    let read = |source| RootError::Read { source };
    let Some(package) = packages.iter().find(|package| package.locked.name == "ca-certificates")
    else {
        return Ok(());
    };
    let dir = package.dir.join("usr/share/ca-certificates/mozilla");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs_err::read_dir(&dir).map_err(read)? {
        files.push(entry.map_err(read)?.path());
    }
    files.sort();
    let mut bundle = String::new();
    for file in
        files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "crt"))
    {
        bundle.push_str(fs_err::read_to_string(file).map_err(read)?.trim_end());
        bundle.push('\n');
    }
    let content = Content::Bytes(bundle.into_bytes());
    let path = format!("{top}/etc/ssl/certs/ca-certificates.crt");
    tree.file(&path, 0o644, content, &package.locked.name)?;
    Ok(())
}

/// An image in the form the container runtime uses in place: its OCI configuration and its unpacked tree.
fn add_image(tree: &mut Tree, image: &BundledImage, program: PathBuf) -> Result<(), RootError> {
    let dir = format!("/usr/share/ingot/images/{}/{}", image.repository, image.tag);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": [format!("/{}", image.name)],
            "Env": ["PATH=/"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let text = format!("{config:#}\n");
    tree.file(&format!("{dir}/config.json"), 0o644, Content::Bytes(text.into_bytes()), MADE)?;
    for (below, mode) in
        [("dev", 0o755), ("etc", 0o755), ("proc", 0o555), ("sys", 0o555), ("tmp", 0o755)]
    {
        tree.directory(&format!("{dir}/rootfs/{below}"), mode)?;
    }
    let passwd = "root:x:0:0:root:/:/nonexistent\n";
    tree.file(&format!("{dir}/rootfs/etc/passwd"), 0o644, Content::Bytes(passwd.into()), MADE)?;
    let path = format!("{dir}/rootfs/{}", image.name);
    tree.file(&path, 0o755, Content::Path(program), OWN)?;
    Ok(())
}
