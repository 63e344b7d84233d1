//! From a recipe to the files of `target/images/<profile>/`: the order of the steps, and nothing else.
//!
//! Nothing is done when nothing changed: the digest of all inputs is compared with the one in the manifest. A new image
//! appears as a whole; a build that is stopped leaves the old one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::formats::{qcow2, raw, uki};
use crate::manifest::{self, Manifest};
use crate::modules::ModuleSet;
use crate::progress::Progress;
use crate::recipe::{ExtraFile, Recipe};
use crate::root::{self, Parts};
use crate::tools::{Lock, LockMode, Package, Tools};
use crate::tree::{Content, Tree, refuse};
use crate::write::{cpio, erofs, verity};
use crate::{apparmor, binaries, digest, initrd, inputs, kubernetes, sbom, sizes};

/// Version of Ingot.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The deliverables, besides the manifest.
pub const OUTPUTS: &[&str] = &[
    "vmlinuz",
    "initrd.img",
    "cmdline",
    "ingot.efi",
    "root.img",
    "disk.raw",
    "disk.qcow2",
    "sbom.spdx.json",
    "root.txt",
];

/// What to build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Root of the checkout: recipes and lock file are in its `configs/images`.
    pub workspace: PathBuf,
    /// Where everything that is built or downloaded goes; the image to `images/<profile>` below it.
    pub target_dir: PathBuf,
    /// Name of the recipe.
    pub profile: String,
    /// How strictly the lock file is followed.
    pub lock_mode: LockMode,
    /// A change to the recipe, for tests and measurements.
    pub variant: Option<Variant>,
    /// Build even when nothing changed.
    pub force: bool,
    /// Directory with finished programs to take instead of compiling them.
    pub programs: Option<PathBuf>,
    /// Compile the programs fast instead of small, and put the image beside the real one: for trying a change. Such an
    /// image is good for tests only.
    pub quick: bool,
    /// Kubernetes for the image, as `cargo xtask kubernetes` left it; `None` for an image without.
    pub kubernetes: Option<kubernetes::Built>,
}

impl BuildOptions {
    /// The plain image of a profile.
    #[must_use]
    pub fn new(workspace: &Path, target_dir: &Path, profile: &str) -> Self {
        Self {
            workspace: workspace.to_owned(),
            target_dir: target_dir.to_owned(),
            profile: profile.to_owned(),
            lock_mode: LockMode::Prefer,
            variant: None,
            force: false,
            programs: None,
            quick: false,
            kubernetes: None,
        }
    }

    /// Directory with the recipes.
    #[must_use]
    pub fn recipes(&self) -> PathBuf {
        self.workspace.join("configs/images")
    }

    /// The lock file.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.recipes().join("packages.lock")
    }

    /// Directory of the finished image.
    #[must_use]
    pub fn image_dir(&self) -> PathBuf {
        let name = self.variant.as_ref().map_or(&self.profile, |variant| &variant.name);
        let kubernetes = if self.kubernetes.is_some() { "-kubernetes" } else { "" };
        let quick = if self.quick { "-quick" } else { "" };
        self.target_dir.join("images").join(format!("{name}{kubernetes}{quick}"))
    }
}

/// An image that differs a little from its recipe.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    /// Name of the image's directory; must differ from every recipe's.
    pub name: String,
    /// Files added to the root; paths on the build machine are taken as they are.
    pub extra_files: Vec<ExtraFile>,
    /// Kernel arguments added behind the recipe's; the kernel and our programs take the last of a name.
    pub command_line: Vec<String>,
}

/// A finished image.
#[derive(Clone, Debug)]
pub struct Built {
    /// Directory with the deliverables.
    pub dir: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// True when nothing had to be done.
    pub up_to_date: bool,
}

impl Built {
    /// Path of a deliverable, for example `disk.raw`.
    #[must_use]
    pub fn path(&self, output: &str) -> PathBuf {
        self.dir.join(output)
    }
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] crate::recipe::RecipeError),
    /// Tools and packages.
    #[error(transparent)]
    Tools(#[from] crate::tools::ToolsError),
    /// The lock file.
    #[error(transparent)]
    Lock(#[from] crate::tools::LockError),
    /// Our programs.
    #[error(transparent)]
    Binaries(#[from] binaries::BinariesError),
    /// The root tree.
    #[error(transparent)]
    Root(#[from] root::RootError),
    /// The tree as such.
    #[error(transparent)]
    Tree(#[from] crate::tree::TreeError),
    /// AppArmor profiles.
    #[error(transparent)]
    Apparmor(#[from] crate::apparmor::ApparmorError),
    /// Kernel modules.
    #[error(transparent)]
    Modules(#[from] crate::modules::ModuleError),
    /// The root file system.
    #[error(transparent)]
    Erofs(#[from] erofs::ErofsError),
    /// The boot image.
    #[error("cannot make the boot image")]
    Uki {
        /// Why.
        #[source]
        source: crate::write::pe::PeError,
    },
    /// The tree holds what an image may not hold.
    #[error("the image would hold what it may not:\n  {}", list.join("\n  "))]
    Refused {
        /// Each with path and reason.
        list: Vec<String>,
    },
    /// A deliverable could not be written.
    #[error("cannot write {what}")]
    Write {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An input could not be read.
    #[error("cannot read the inputs of the image")]
    Inputs {
        /// Why, with the path.
        #[source]
        source: std::io::Error,
    },
}

/// Builds an image, unless the one that is there is what would come out.
///
/// # Errors
/// [`BuildError`].
pub fn build(options: &BuildOptions, progress: &dyn Progress) -> Result<Built, BuildError> {
    let inputs_error = |source| BuildError::Inputs { source };
    let recipe = load(options)?;
    let tools = Tools::ensure(&options.target_dir, progress)?;
    let lock = Lock::read(&options.lock_file())?;
    let packages = tools.packages(&package_names(&recipe), &lock, options.lock_mode, progress)?;
    let programs = match &options.programs {
        Some(dir) => binaries::find(dir, &recipe)?,
        None => binaries::build(options, &recipe, progress)?,
    };
    let inputs =
        inputs::collect(options, &recipe, &packages, &programs, &tools).map_err(inputs_error)?;
    let dir = options.image_dir();
    let images = options.target_dir.join("images");
    fs_err::create_dir_all(&images).map_err(inputs_error)?;
    let hidden = dir.file_name().unwrap_or_default().to_string_lossy();
    let guard =
        fs_err::File::create(images.join(format!(".{hidden}.lock"))).map_err(inputs_error)?;
    guard.file().lock().map_err(inputs_error)?;
    if let Some(manifest) = Manifest::read(&dir)
        && !options.force
        && manifest.inputs == inputs.digest
        && manifest.outputs_are_there(&dir)
    {
        progress.step(&format!("image {} is up to date", recipe.name));
        return Ok(Built { dir, manifest, up_to_date: true });
    }
    let work = images.join(format!(".{hidden}.partial"));
    let write = |source| BuildError::Write { what: "the image directory", source };
    if work.exists() {
        fs_err::remove_dir_all(&work).map_err(write)?;
    }
    fs_err::create_dir_all(&work).map_err(write)?;
    let job = Job {
        options,
        recipe: &recipe,
        tools: &tools,
        packages: &packages,
        programs: &programs,
        inputs: &inputs,
        work: &work,
        progress,
    };
    let manifest = job.run()?;
    if dir.exists() {
        fs_err::remove_dir_all(&dir).map_err(write)?;
    }
    fs_err::rename(&work, &dir).map_err(write)?;
    Ok(Built { dir, manifest, up_to_date: false })
}

/// The recipe, with the variant's changes.
///
/// # Errors
/// [`BuildError::Recipe`].
pub fn load(options: &BuildOptions) -> Result<Recipe, BuildError> {
    let (directory, kubernetes) = (options.recipes(), options.kubernetes.is_some());
    let load = if kubernetes { Recipe::load_with_kubernetes } else { Recipe::load };
    let mut recipe = load(&directory, &options.profile)?;
    if let Some(variant) = &options.variant {
        recipe.name.clone_from(&variant.name);
        recipe.files.extend(variant.extra_files.iter().cloned());
        recipe.kernel.command_line.extend(variant.command_line.iter().cloned());
    }
    Ok(recipe)
}

/// Every package an image of this recipe takes files from, the kernel first.
#[must_use]
pub fn package_names(recipe: &Recipe) -> Vec<String> {
    std::iter::once(&recipe.kernel.package).chain(&recipe.root.packages).cloned().collect()
}

/// One build under way.
struct Job<'a> {
    options: &'a BuildOptions,
    recipe: &'a Recipe,
    tools: &'a Tools,
    packages: &'a [Package],
    programs: &'a BTreeMap<String, PathBuf>,
    inputs: &'a inputs::Inputs,
    work: &'a Path,
    progress: &'a dyn Progress,
}

impl Job<'_> {
    fn run(&self) -> Result<Manifest, BuildError> {
        let (kernel, others) =
            self.packages.split_first().ok_or(BuildError::Refused { list: Vec::new() })?;
        self.progress.step("reading kernel modules");
        let mut store = kernel.dir.as_os_str().to_owned();
        store.push(".modules");
        let modules = ModuleSet::open(&kernel.dir, Path::new(&store))?;
        self.progress.step("putting the root together");
        let tree = self.tree(kernel, others, &modules)?;
        self.progress.step("making the root file system and its hash tree");
        let verity = self.root(&tree)?;
        let command_line = self.command_line(&verity);
        self.write("cmdline", "the command line", format!("{command_line}\n").as_bytes())?;
        self.progress.step("making initrd, boot image and disk");
        self.boot(kernel, others, &modules, &command_line)?;
        self.progress.step("compressing the disk");
        let qcow2 = |source| BuildError::Write { what: "the compressed disk", source };
        qcow2::convert(
            self.tools.qemu_img()?,
            &self.work.join("disk.raw"),
            &self.work.join("disk.qcow2"),
        )
        .map_err(qcow2)?;
        self.progress.step("measuring what the image is made of");
        let made_of = sizes::measure(self.tools, self.work, &tree, self.recipe)?;
        let manifest = |source| BuildError::Write { what: "the manifest", source };
        let result = Manifest {
            inputs: self.inputs.digest.clone(),
            profile: self.recipe.name.clone(),
            version: VERSION.to_owned(),
            revision: self.inputs.revision.clone(),
            kernel: modules.release.clone(),
            command_line,
            root_hash: verity.root_hash,
            outputs: Manifest::measure(self.work, OUTPUTS).map_err(manifest)?,
            made_of,
            programs: self.inputs.program_sizes.clone(),
            packages: self.packages.iter().map(|package| package.locked.clone()).collect(),
            tools: self.tools.versions().lines().map(str::to_owned).collect(),
        };
        let text = serde_json::to_string_pretty(&result).map_err(|error| manifest(error.into()))?;
        self.write(manifest::FILE, "the manifest", format!("{text}\n").as_bytes())?;
        Ok(result)
    }

    fn tree(
        &self,
        kernel: &Package,
        others: &[Package],
        modules: &ModuleSet,
    ) -> Result<Tree, BuildError> {
        let parts = Parts {
            recipe: self.recipe,
            recipe_dir: &self.options.recipes(),
            packages: others,
            kernel: &kernel.locked.name,
            modules,
            binaries: self.programs,
            kubernetes: self.options.kubernetes.as_ref(),
            version: VERSION,
        };
        let mut tree = root::assemble(&parts)?;
        let profiles = &self.recipe.apparmor;
        apparmor::add(&mut tree, profiles, parts.recipe_dir, others, self.tools, self.work)?;
        let release = json!({
            "name": "Ingot",
            "version": VERSION,
            "revision": self.inputs.revision,
            "profile": self.recipe.name,
            "kernel": modules.release,
            "inputs": self.inputs.digest,
            "kubernetes": self.options.kubernetes.as_ref().map(|built| &built.about.version),
            "packages": self.packages.iter().map(|one| format!("{}={}", one.locked.name, one.locked.version)).collect::<Vec<_>>(),
        });
        let release = Content::Bytes(format!("{release:#}\n").into_bytes());
        tree.file("/usr/share/ingot/release.json", 0o644, release, root::MADE)?;
        let locked: Vec<_> = self.packages.iter().map(|package| package.locked.clone()).collect();
        let bill = sbom::document(
            &self.recipe.name,
            VERSION,
            &self.inputs.digest,
            &locked,
            &sbom::Libraries {
                rust: &self.inputs.crates,
                go: self.options.kubernetes.as_ref().map_or(&[], |built| &built.about.modules),
            },
            &tree.listing()?,
        );
        self.write("sbom.spdx.json", "the bill of materials", bill.as_bytes())?;
        tree.file(
            "/usr/share/ingot/sbom.spdx.json",
            0o644,
            Content::Bytes(bill.into_bytes()),
            root::MADE,
        )?;
        self.write("root.txt", "the listing of the root", tree.text().as_bytes())?;
        let refused = refuse::check(&tree).map_err(|source| BuildError::Inputs { source })?;
        if refused.is_empty() {
            return Ok(tree);
        }
        Err(BuildError::Refused { list: refused.iter().map(ToString::to_string).collect() })
    }

    fn root(&self, tree: &Tree) -> Result<verity::Verity, BuildError> {
        let image = self.work.join("root.img");
        let uuid = digest::guid(&self.inputs.digest, "root");
        make_erofs(self.tools, tree, self.recipe, &uuid, &image)?;
        let write = |source| BuildError::Write { what: "the hash tree", source };
        // The salt follows the content: two images share no hashes, and equal content gives an equal tree.
        let (content, _) = digest::of_file(&image).map_err(write)?;
        let mut salt = [0; 32];
        hex::decode_to_slice(&content, &mut salt)
            .map_err(|error| write(std::io::Error::other(error)))?;
        let mut file =
            std::fs::File::options().read(true).write(true).open(&image).map_err(write)?;
        verity::append(&mut file, &salt, &uuid).map_err(write)
    }

    fn command_line(&self, verity: &verity::Verity) -> String {
        let kernel = &self.recipe.kernel;
        let own = [
            format!("ingot.root={}", verity.argument()),
            format!("ingot.verity={}", kernel.on_corruption.argument()),
            "ingot.slot=a".to_owned(),
            format!("ingot.profile={}", self.recipe.name),
        ];
        own.iter().chain(&kernel.command_line).cloned().collect::<Vec<_>>().join(" ")
    }

    fn boot(
        &self,
        kernel: &Package,
        others: &[Package],
        modules: &ModuleSet,
        command_line: &str,
    ) -> Result<(), BuildError> {
        let read = |source| BuildError::Inputs { source };
        let linux = fs_err::read(kernel.dir.join(format!("boot/vmlinuz-{}", modules.release)))
            .map_err(read)?;
        self.write("vmlinuz", "the kernel", &linux)?;
        let planned = initrd::plan(modules, &self.recipe.initrd)?;
        let first = self.recipe.binaries.iter().find(|binary| binary.path == "initrd");
        let first = first.and_then(|binary| self.programs.get(&binary.name));
        let first = first.ok_or_else(|| root::RootError::NoFile { path: "initrd".to_owned() })?;
        let first = fs_err::read(first).map_err(read)?;
        let archive = cpio::write(&initrd::entries(modules, &planned, first).map_err(read)?);
        self.write("initrd.img", "the initrd", &archive)?;
        let efi = |name: &str| {
            let path = format!("usr/lib/systemd/boot/efi/{name}");
            let holder = others.iter().find(|package| package.dir.join(&path).is_file());
            holder.map(|package| package.dir.join(&path)).ok_or(root::RootError::NoFile { path })
        };
        let stub = fs_err::read(efi("linuxx64.efi.stub")?).map_err(read)?;
        let loader = fs_err::read(efi("systemd-bootx64.efi")?).map_err(read)?;
        let image = uki::build(&uki::Uki {
            stub: &stub,
            os_release: &root::os_release(self.recipe, VERSION),
            command_line,
            kernel_release: &modules.release,
            initrd: &archive,
            kernel: &linux,
        });
        let image = image.map_err(|source| BuildError::Uki { source })?;
        self.write("ingot.efi", "the boot image", &image)?;
        let esp: [(&str, &[u8]); 4] = [
            ("EFI/BOOT/BOOTX64.EFI", &loader),
            ("EFI/systemd/systemd-bootx64.efi", &loader),
            ("EFI/Linux/ingot-a.efi", &image),
            // No menu, and no way to type another command line on the console.
            ("loader/loader.conf", b"timeout 0\neditor no\nauto-entries no\n"),
        ];
        let disk =
            raw::Disk { seed: &self.inputs.digest, esp: &esp, root: &self.work.join("root.img") };
        raw::write(&disk, &self.work.join("disk.raw"))
            .map_err(|source| BuildError::Write { what: "the disk", source })
    }

    fn write(&self, name: &str, what: &'static str, bytes: &[u8]) -> Result<(), BuildError> {
        fs_err::write(self.work.join(name), bytes)
            .map_err(|source| BuildError::Write { what, source })
    }
}

/// Makes an EROFS image of a tree, through a tar archive beside it.
///
/// # Errors
/// [`BuildError`].
pub(crate) fn make_erofs(
    tools: &Tools,
    tree: &Tree,
    recipe: &Recipe,
    uuid: &[u8; 16],
    image: &Path,
) -> Result<(), BuildError> {
    let tar = image.with_extension("tar");
    let write = |source| BuildError::Write { what: "the root archive", source };
    let file = fs_err::File::create(&tar).map_err(write)?;
    tree.write_tar(std::io::BufWriter::new(file))?;
    let uncompressed: Vec<&str> = tree
        .iter()
        .map(|(path, _)| path)
        .filter(|path| recipe.own_programs().any(|own| own.strip_prefix('/') == Some(path)))
        .collect();
    let mkfs = tools.command("mkfs.erofs")?;
    erofs::make(mkfs, recipe.root.compression, &uncompressed, uuid, &tar, image)?;
    fs_err::remove_file(&tar).map_err(write)
}
