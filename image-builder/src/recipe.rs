//! Image recipes: `configs/images/*.toml`, read into checked values.
//!
//! A recipe may extend another: tables are merged, lists are joined, single values are replaced. Reading files is all
//! the I/O here; what a recipe leads to is decided in [`crate::plan`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::write::erofs::Compression;

/// A whole recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the image, and of its directory.
    pub name: String,
    /// What the image is for, one line.
    pub description: String,
    /// The kernel and what it is told.
    pub kernel: Kernel,
    /// The root file system.
    pub root: Root,
    /// The initrd.
    pub initrd: Initrd,
    /// Kernel modules of the root.
    pub modules: Modules,
    /// Our own programs.
    #[serde(default, rename = "binary")]
    pub binaries: Vec<Binary>,
    /// C programs from Debian, with the libraries they need.
    #[serde(default, rename = "program")]
    pub programs: Vec<Program>,
    /// Further files, from the recipe's directory.
    #[serde(default, rename = "file")]
    pub files: Vec<ExtraFile>,
    /// AppArmor profiles from the recipe's directory, compiled.
    #[serde(default)]
    pub apparmor: Vec<ExtraFile>,
    /// Container images bundled in the root.
    #[serde(default, rename = "image")]
    pub images: Vec<BundledImage>,
    /// Kubernetes, where the image takes it.
    #[serde(default)]
    pub kubernetes: Option<Kubernetes>,
}

/// The kernel and what it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Debian package or metapackage.
    pub package: String,
    /// Kernel arguments besides the ones the builder writes.
    pub command_line: Vec<String>,
    /// What happens on a corrupted block of the root.
    pub on_corruption: OnCorruption,
}

/// What happens on a corrupted block of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCorruption {
    /// The kernel panics (and reboots, by `panic=`).
    Panic,
    /// The kernel restarts the machine at once.
    Restart,
    /// The read fails.
    Eio,
}

impl OnCorruption {
    /// As the kernel command line says it.
    #[must_use]
    pub fn argument(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Restart => "restart",
            Self::Eio => "eio",
        }
    }
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// How file contents are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Debian packages that programs, libraries and boot files are taken from. Nothing of them is in the image unless
    /// something asks for it.
    pub packages: Vec<String>,
}

/// Modules of the initrd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initrd {
    /// Loaded on every boot: what the root itself needs.
    pub always: Vec<String>,
    /// Loaded when hardware they serve is present: disk controllers.
    pub by_hardware: Vec<String>,
    /// Loaded together with any of `by_hardware`: what sits on top of a controller.
    #[serde(default)]
    pub on_top: Vec<OnTop>,
    /// For a controller with a long list of hardware, the patterns that matter to this image, divided by blanks; empty
    /// text stands for the module's own list.
    #[serde(default)]
    pub narrow: BTreeMap<String, String>,
}

/// A module that serves what a controller finds later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnTop {
    /// The module.
    pub module: String,
    /// Loaded when hardware of one of these is present.
    pub of: Vec<String>,
}

/// Modules of the root, as paths below the release directory: one ending in `/` is a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// What goes in, with everything it depends on.
    pub include: Vec<String>,
    /// What of that stays out unless something depends on it.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// One of our own programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// Cargo package.
    pub package: String,
    /// Binary of that package.
    pub name: String,
    /// Path on the node, or `initrd` for the initrd's first program.
    pub path: String,
}

/// A C program from a Debian package of `root.packages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Path in its package and on the node.
    pub path: String,
    /// Symbolic links to it, as paths on the node.
    #[serde(default)]
    pub links: Vec<String>,
}

/// A file that is put into the root as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraFile {
    /// File on the build machine, relative to the recipe's directory.
    pub from: PathBuf,
    /// Path on the node.
    pub path: String,
    /// Permission bits, for example `0o755`.
    pub mode: u32,
}

/// A container image of one static program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledImage {
    /// Image name without tag, for example `ingot/workload`.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// Cargo package of its program.
    pub package: String,
    /// Binary of that package; it becomes `/<name>` in the image and its entry point.
    pub name: String,
}

/// The container image with all programs of Kubernetes, and the manifests of what a cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// Name of the container image; its tag is the version of Kubernetes.
    pub repository: String,
    /// Directories in the container image where things are mounted.
    pub directories: Vec<String>,
    /// C programs in the container image that Kubernetes calls, with the libraries they need.
    pub programs: Vec<Program>,
    /// Directory on the build machine with the manifests, relative to the directory of recipes.
    pub manifests: PathBuf,
}

/// Directory on the node with the manifests of what a cluster begins with.
pub const MANIFESTS: &str = "/usr/share/ingot/kubernetes/addons";

/// What can be wrong with a recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// There is no such recipe.
    #[error("there is no image recipe {name}; {directory} has: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Where recipes lie.
        directory: PathBuf,
        /// What is there.
        known: String,
    },
    /// A recipe could not be read.
    #[error("cannot read the image recipe {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A recipe is not valid TOML, or has unknown or missing keys.
    #[error("the image recipe {path} is wrong")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The manifests of an addition could not be listed.
    #[error("cannot list the manifests that go into the image")]
    Manifests {
        /// Why, with the path.
        #[source]
        source: std::io::Error,
    },
    /// Recipes extend each other in a circle, or too deeply.
    #[error("the image recipe {path} extends too many others; is there a circle?")]
    Depth {
        /// The last file read.
        path: PathBuf,
    },
}

/// Recipes extend at most this many others: two are in use, a circle never ends.
const MAX_DEPTH: usize = 8;
/// What Kubernetes adds to a recipe; no recipe by itself, so it is not among them.
const ADDITION: &str = "with/kubernetes.toml";

impl Recipe {
    /// Paths of our own programs in the root. They are never compressed: every boot reads them, and unpacking them was a
    /// third of the time from PID 1 to the first answer. The disk, which is compressed as a whole, does not grow by it.
    pub(crate) fn own_programs(&self) -> impl Iterator<Item = &str> {
        let added = self.files.iter().filter(|file| file.mode & 0o111 != 0);
        self.binaries
            .iter()
            .map(|binary| binary.path.as_str())
            .chain(added.map(|file| file.path.as_str()))
    }

    /// Reads the recipe `name` of `directory`, with what it extends.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn load(directory: &Path, name: &str) -> Result<Self, RecipeError> {
        let path = directory.join(format!("{name}.toml"));
        if name.contains(['/', '.']) || !path.exists() {
            let known = names(directory).join(", ");
            return Err(RecipeError::Unknown {
                name: name.to_owned(),
                directory: directory.to_owned(),
                known,
            });
        }
        let table = merged(directory, &path, 0)?;
        table.try_into().map_err(|source| RecipeError::Parse { path, source: Box::new(source) })
    }

    /// Reads the recipe `name` of `directory` with what Kubernetes adds to every recipe, `with/kubernetes.toml`.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn load_with_kubernetes(directory: &Path, name: &str) -> Result<Self, RecipeError> {
        let plain = Self::load(directory, name)?;
        let mut table = merged(directory, &directory.join(format!("{name}.toml")), 0)?;
        let path = directory.join(ADDITION);
        merge(&mut table, merged(directory, &path, 0)?);
        let mut recipe: Self = table
            .try_into()
            .map_err(|source| RecipeError::Parse { path, source: Box::new(source) })?;
        recipe.name = format!("{}-kubernetes", plain.name);
        if let Some(kubernetes) = &recipe.kubernetes {
            recipe.files.extend(manifests(directory, &kubernetes.manifests)?);
        }
        Ok(recipe)
    }
}

/// The manifests below `from`, as files of the root, sorted.
fn manifests(directory: &Path, from: &Path) -> Result<Vec<ExtraFile>, RecipeError> {
    let list = |source| RecipeError::Manifests { source };
    let mut files = Vec::new();
    for entry in fs_err::read_dir(directory.join(from)).map_err(list)? {
        let name = entry.map_err(list)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") {
            let path = format!("{MANIFESTS}/{name}");
            files.push(ExtraFile { from: from.join(&name), path, mode: 0o644 });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Names of all recipes in a directory, sorted.
#[must_use]
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_suffix(".toml"))
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

fn merged(directory: &Path, path: &Path, depth: usize) -> Result<toml::Table, RecipeError> {
    if depth > MAX_DEPTH {
        return Err(RecipeError::Depth { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
    let mut table: toml::Table = text
        .parse()
        .map_err(|source| RecipeError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    let Some(toml::Value::String(base)) = table.remove("extends") else { return Ok(table) };
    let mut whole = merged(directory, &directory.join(format!("{base}.toml")), depth + 1)?;
    merge(&mut whole, table);
    Ok(whole)
}

fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (Some(toml::Value::Array(below)), toml::Value::Array(above)) => below.extend(above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipes() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/images")
    }

    #[test]
    fn every_recipe_of_the_project_is_valid_and_named_like_its_file() {
        let names = names(&recipes());
        assert!(names.contains(&"vm".to_owned()), "{names:?}");
        for name in names {
            assert_eq!(Recipe::load(&recipes(), &name).expect("valid").name, name);
        }
    }

    #[test]
    fn our_own_programs_are_those_of_the_recipe_and_nothing_of_debian() {
        let vm = Recipe::load(&recipes(), "vm").expect("valid");
        let own: Vec<&str> = vm.own_programs().collect();
        for program in ["/usr/sbin/ingot-init", "/usr/bin/ingotd", "/usr/bin/ingot-runc"] {
            assert!(own.contains(&program), "{own:?}");
        }
        assert!(!own.contains(&"/usr/sbin/mke2fs"), "{own:?}");
    }

    #[test]
    fn a_recipe_that_extends_another_joins_its_lists() {
        let vm = Recipe::load(&recipes(), "vm").expect("valid");
        let demo = Recipe::load(&recipes(), "demo").expect("valid");
        assert_eq!(demo.kernel, vm.kernel);
        assert!(demo.images.len() > vm.images.len());
    }

    #[test]
    fn kubernetes_adds_to_a_recipe_and_changes_nothing_of_it() {
        for name in names(&recipes()) {
            let plain = Recipe::load(&recipes(), &name).expect("valid");
            let whole = Recipe::load_with_kubernetes(&recipes(), &name).expect("valid");
            assert!(plain.kubernetes.is_none());
            assert_eq!(whole.name, format!("{name}-kubernetes"));
            assert_eq!((&whole.kernel, &whole.initrd), (&plain.kernel, &plain.initrd));
            assert!(whole.root.packages.starts_with(&plain.root.packages));
            let added = whole.kubernetes.expect("Kubernetes");
            assert!(added.programs.iter().any(|program| program.path == "/usr/sbin/nft"));
        }
    }

    #[test]
    fn every_manifest_of_the_folder_goes_into_the_image() {
        let dir = tempfile::tempdir().expect("directory");
        for name in ["b.yaml", "a.yaml", "README.md"] {
            std::fs::write(dir.path().join(name), "").expect("file");
        }
        let found = manifests(dir.path(), Path::new("")).expect("listed");
        let paths: Vec<_> = found.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [format!("{MANIFESTS}/a.yaml"), format!("{MANIFESTS}/b.yaml")]);
        assert!(matches!(
            manifests(dir.path(), Path::new("absent")),
            Err(RecipeError::Manifests { .. })
        ));
    }

    #[test]
    fn an_unknown_recipe_is_named_with_the_ones_there_are() {
        let error = Recipe::load(&recipes(), "vmm").expect_err("unknown").to_string();
        assert!(error.contains("vmm") && error.contains("demo, metal, vm"), "{error}");
    }

    #[test]
    fn a_recipe_with_an_unknown_key_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::write(dir.path().join("x.toml"), "name = \"x\"\ncolour = \"red\"\n")
            .expect("recipe");
        assert!(matches!(Recipe::load(dir.path(), "x"), Err(RecipeError::Parse { .. })));
    }

    #[test]
    fn recipes_that_extend_each_other_are_refused() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::write(dir.path().join("a.toml"), "extends = \"b\"\n").expect("recipe");
        std::fs::write(dir.path().join("b.toml"), "extends = \"a\"\n").expect("recipe");
        assert!(matches!(Recipe::load(dir.path(), "a"), Err(RecipeError::Depth { .. })));
    }
}
