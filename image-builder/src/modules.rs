//! Kernel modules: which ones go into an image, in which order they load, and the index files the agent reads.
//!
//! What a module needs is read from its own `.modinfo` section, so no `depmod` runs. Modules are stored decompressed:
//! the file system compresses, and neither initrd nor agent has to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};

/// One kernel module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Path below the release directory, for example `kernel/fs/erofs/erofs.ko`.
    pub path: String,
    /// Name with underscores, as the kernel knows it.
    pub name: String,
    /// Names of modules that must be loaded before.
    pub depends: Vec<String>,
    /// Patterns of hardware identifiers it serves.
    pub aliases: Vec<String>,
    /// Names that should be loaded before if they exist (`softdep pre:`).
    pub wants_before: Vec<String>,
    /// Soft dependencies as written, for the index.
    pub softdeps: Vec<String>,
}

/// What can go wrong with modules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// A file of the kernel package could not be read or decompressed.
    #[error("cannot read the modules of the kernel package")]
    Read {
        /// Why, with the path.
        #[source]
        source: std::io::Error,
    },
    /// The package holds no or several kernel releases.
    #[error("the kernel package in {path} holds {count} kernel releases instead of one")]
    Release {
        /// Directory of the package.
        path: PathBuf,
        /// How many were found.
        count: usize,
    },
    /// A module file is not what it should be.
    #[error("{path} is not a kernel module")]
    NotAModule {
        /// The file.
        path: PathBuf,
    },
    /// The recipe names something the kernel does not have.
    #[error(
        "the recipe names kernel module {name}, which this kernel has neither as a module nor built in"
    )]
    Unknown {
        /// Name or path prefix.
        name: String,
    },
}

/// All modules of one kernel, decompressed below a directory.
#[derive(Clone, Debug)]
pub struct ModuleSet {
    /// Kernel release, as `uname -r` says it.
    pub release: String,
    /// Directory that holds the decompressed files, each `x.ko` with its signature beside it as `x.ko.sig`.
    pub dir: PathBuf,
    modules: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
}

impl ModuleSet {
    /// Reads a kernel package unpacked in `package`, decompressing its modules into `store` once.
    ///
    /// # Errors
    /// [`ModuleError`].
    pub fn open(package: &Path, store: &Path) -> Result<Self, ModuleError> {
        let read = |source| ModuleError::Read { source };
        let (release, source_dir) = release_dir(package)?;
        let dir = store.to_owned();
        if !dir.exists() {
            let mut partial = store.as_os_str().to_owned();
            partial.push(".partial");
            let partial = PathBuf::from(partial);
            if partial.exists() {
                fs_err::remove_dir_all(&partial).map_err(read)?;
            }
            decompress_all(&source_dir, &partial).map_err(read)?;
            fs_err::rename(&partial, &dir).map_err(read)?;
        }
        let mut modules = BTreeMap::new();
        for path in files(&dir)
            .map_err(read)?
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "ko"))
        {
            let bytes = fs_err::read(path).map_err(read)?;
            let relative = path.strip_prefix(&dir).unwrap_or(path).to_string_lossy().into_owned();
            let module = parse(&relative, &bytes)
                .ok_or_else(|| ModuleError::NotAModule { path: path.clone() })?;
            modules.insert(module.name.clone(), module);
        }
        let builtin = fs_err::read_to_string(dir.join("modules.builtin")).map_err(read)?;
        let builtin = builtin.lines().map(module_name).collect();
        Ok(Self { release, dir, modules, builtin })
    }

    /// Modules whose path begins with one of `include` and none of `exclude`, with everything they depend on, by name.
    ///
    /// # Errors
    /// [`ModuleError::Unknown`] for an `include` that matches nothing.
    pub fn select(
        &self,
        include: &[String],
        exclude: &[String],
    ) -> Result<Vec<&Module>, ModuleError> {
        let mut names = BTreeSet::new();
        for prefix in include {
            let found: Vec<&str> = self
                .modules
                .values()
                .filter(|module| matches_path(&module.path, prefix))
                .filter(|module| !exclude.iter().any(|prefix| matches_path(&module.path, prefix)))
                .map(|module| module.name.as_str())
                .collect();
            if found.is_empty() && !self.builtin.contains(&module_name(prefix)) {
                return Err(ModuleError::Unknown { name: prefix.clone() });
            }
            names.extend(found.into_iter().map(str::to_owned));
        }
        Ok(self.load_order(names.iter().map(String::as_str)))
    }

    /// The named modules and what they need, each after what it needs. A name that is built in gives nothing.
    ///
    /// # Errors
    /// [`ModuleError::Unknown`].
    pub fn with_needs(&self, names: &[String]) -> Result<Vec<&Module>, ModuleError> {
        for name in names {
            let name = module_name(name);
            if !self.modules.contains_key(&name) && !self.builtin.contains(&name) {
                return Err(ModuleError::Unknown { name });
            }
        }
        let normal: Vec<String> = names.iter().map(|name| module_name(name)).collect();
        Ok(self.load_order(normal.iter().map(String::as_str)))
    }

    fn load_order<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<&Module> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.visit(name, &mut seen, &mut order);
        }
        order
    }

    /// Depth first: needs before the module itself. `seen` also ends cycles.
    fn visit<'a>(&'a self, name: &str, seen: &mut BTreeSet<&'a str>, order: &mut Vec<&'a Module>) {
        let Some(module) = self.modules.get(name) else {
            // Soft needs may name what several modules provide, for example `crc32c`: whichever of them fits works.
            let provides =
                |module: &&Module| module.aliases.iter().any(|alias| module_name(alias) == name);
            for module in self.modules.values().filter(provides) {
                self.visit(&module.name, seen, order);
            }
            return;
        };
        if !seen.insert(&module.name) {
            return;
        }
        for need in module.wants_before.iter().chain(&module.depends) {
            self.visit(need, seen, order);
        }
        order.push(module);
    }

    /// The files of a module below [`ModuleSet::dir`]: itself and its signature, if it has one.
    #[must_use]
    pub fn files(&self, module: &Module) -> Vec<String> {
        let signature = format!("{}.sig", module.path);
        let signed = self.dir.join(&signature).exists();
        std::iter::once(module.path.clone()).chain(signed.then_some(signature)).collect()
    }

    /// `modules.dep` for a selection: what each file needs, the last one first to load, as depmod writes it.
    #[must_use]
    pub fn dep_text(&self, selection: &[&Module]) -> String {
        let mut sorted = selection.to_vec();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        let mut text = String::new();
        for module in sorted {
            let mut needs = Vec::new();
            let mut seen = BTreeSet::new();
            for need in &module.depends {
                self.visit_hard(need, &mut seen, &mut needs);
            }
            let needs: String = needs.iter().rev().map(|path| format!(" {path}")).collect();
            let _infallible = writeln!(text, "{}:{needs}", module.path);
        }
        text
    }

    fn visit_hard<'a>(
        &'a self,
        name: &str,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<&'a str>,
    ) {
        let Some(module) = self.modules.get(name) else { return };
        if seen.insert(&module.name) {
            for need in &module.depends {
                self.visit_hard(need, seen, order);
            }
            order.push(&module.path);
        }
    }
}

/// `modules.alias` for a selection.
#[must_use]
pub fn alias_text(selection: &[&Module]) -> String {
    let mut lines: Vec<String> = selection
        .iter()
        .flat_map(|module| {
            module.aliases.iter().map(|alias| format!("alias {alias} {}\n", module.name))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// `modules.softdep` for a selection.
#[must_use]
pub fn softdep_text(selection: &[&Module]) -> String {
    let mut lines: Vec<String> = selection
        .iter()
        .flat_map(|module| {
            module.softdeps.iter().map(|text| format!("softdep {} {text}\n", module.name))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// A prefix ending in `/` is a directory; anything else names one module, with or without `.ko`.
fn matches_path(path: &str, prefix: &str) -> bool {
    if prefix.ends_with('/') {
        return path.starts_with(prefix);
    }
    path.trim_end_matches(".ko") == prefix.trim_end_matches(".ko")
}

/// The kernel's name of a module file or of a name written with dashes.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.trim_end_matches(".xz").trim_end_matches(".ko").replace('-', "_")
}

fn release_dir(package: &Path) -> Result<(String, PathBuf), ModuleError> {
    let read = |source| ModuleError::Read { source };
    let all = package.join("usr/lib/modules");
    let all = if all.exists() { all } else { package.join("lib/modules") };
    let mut releases = Vec::new();
    for entry in fs_err::read_dir(&all).map_err(read)? {
        releases.push(entry.map_err(read)?.file_name().to_string_lossy().into_owned());
    }
    match releases.as_slice() {
        [one] => Ok((one.clone(), all.join(one))),
        _ => Err(ModuleError::Release { path: package.to_owned(), count: releases.len() }),
    }
}

fn decompress_all(from: &Path, to: &Path) -> std::io::Result<()> {
    for path in files(from)? {
        let relative = path.strip_prefix(from).unwrap_or(&path);
        let target = to.join(relative);
        if let Some(parent) = target.parent() {
            fs_err::create_dir_all(parent)?;
        }
        if path.extension().is_some_and(|extension| extension == "xz") {
            let mut reader = lzma_rust2::XzReader::new(fs_err::File::open(&path)?, true);
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            let (module, signature) = split_signature(&bytes);
            let target = target.with_extension("");
            fs_err::write(&target, module)?;
            if let Some(signature) = signature {
                fs_err::write(target.with_added_extension("sig"), signature)?;
            }
        } else {
            fs_err::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Splits a module file into the module and its signature, if it has one.
///
/// The kernel spends more on checking a signature than on all the rest of loading, and on a verified root it proves
/// nothing new; so images hold it in a file beside, for kernels that insist.
#[must_use]
pub fn split_signature(file: &[u8]) -> (&[u8], Option<&[u8]>) {
    let whole = (file, None);
    let Some(rest) = file.strip_suffix(SIGNATURE_MARK) else { return whole };
    // Before the mark: twelve bytes, the last four of them the length of the signature before them, big-endian.
    let Some(length) = rest.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize)
    else {
        return whole;
    };
    match rest.len().checked_sub(12 + length).and_then(|at| file.split_at_checked(at)) {
        Some((module, signature)) => (module, Some(signature)),
        None => whole,
    }
}

const SIGNATURE_MARK: &[u8] = b"~Module signature appended~\n";

/// Every regular file below `dir`, sorted.
fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs_err::read_dir(&next)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads `.modinfo`: strings `key=value`, each ended by a zero byte.
fn parse(path: &str, bytes: &[u8]) -> Option<Module> {
    let elf = object::File::parse(bytes).ok()?;
    let section = elf.section_by_name(".modinfo")?;
    let mut module = Module { path: path.to_owned(), name: module_name(path), ..Module::default() };
    for field in section.data().ok()?.split(|byte| *byte == 0) {
        let Ok(text) = std::str::from_utf8(field) else { continue };
        let Some((key, value)) = text.split_once('=') else { continue };
        match key {
            "depends" => module
                .depends
                .extend(value.split(',').filter(|name| !name.is_empty()).map(module_name)),
            "alias" => module.aliases.push(value.to_owned()),
            "softdep" => {
                module.softdeps.push(value.to_owned());
                module.wants_before.extend(softdep_pre(value));
            }
            _ => {}
        }
    }
    Some(module)
}

/// Names between `pre:` and `post:`.
fn softdep_pre(text: &str) -> Vec<String> {
    let mut pre = false;
    let mut names = Vec::new();
    for word in text.split_whitespace() {
        match word {
            "pre:" => pre = true,
            "post:" => pre = false,
            name if pre => names.push(module_name(name)),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(modules: &[(&str, &[&str])]) -> ModuleSet {
        let modules = modules
            .iter()
            .map(|(path, depends)| Module {
                path: (*path).to_owned(),
                name: module_name(path),
                depends: depends.iter().map(|name| (*name).to_owned()).collect(),
                ..Module::default()
            })
            .map(|module| (module.name.clone(), module))
            .collect();
        let builtin = BTreeSet::from(["nvme".to_owned()]);
        ModuleSet { release: "6".to_owned(), dir: PathBuf::new(), modules, builtin }
    }

    fn names(modules: &[&Module]) -> Vec<String> {
        modules.iter().map(|module| module.name.clone()).collect()
    }

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let set =
            set(&[("kernel/a.ko", &["b", "c"]), ("kernel/b.ko", &["c"]), ("kernel/c.ko", &[])]);
        let order = set.with_needs(&["a".to_owned()]).expect("known");
        assert_eq!(names(&order), ["c", "b", "a"]);
    }

    #[test]
    fn a_soft_need_for_something_brings_every_module_that_provides_it() {
        let mut set =
            set(&[("kernel/a.ko", &[]), ("kernel/crc-fast.ko", &[]), ("kernel/crc-slow.ko", &[])]);
        set.modules.get_mut("a").expect("known").wants_before.push("crc32c".to_owned());
        for name in ["crc_fast", "crc_slow"] {
            set.modules.get_mut(name).expect("known").aliases.push("crc32c".to_owned());
        }
        let order = set.with_needs(&["a".to_owned()]).expect("known");
        assert_eq!(names(&order), ["crc_fast", "crc_slow", "a"]);
    }

    #[test]
    fn a_cycle_of_modules_ends() {
        let set = set(&[("kernel/a.ko", &["b"]), ("kernel/b.ko", &["a"])]);
        assert_eq!(set.with_needs(&["a".to_owned()]).expect("known").len(), 2);
    }

    #[test]
    fn the_dep_index_lists_what_loads_first_last() {
        let set =
            set(&[("kernel/a.ko", &["b", "c"]), ("kernel/b.ko", &["c"]), ("kernel/c.ko", &[])]);
        let all = set.select(&["kernel/".to_owned()], &[]).expect("known");
        let text = set.dep_text(&all);
        assert_eq!(
            text,
            "kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko:\n"
        );
    }

    #[test]
    fn a_directory_selects_what_is_below_and_drags_in_what_it_needs() {
        let set = set(&[
            ("kernel/fs/x/x.ko", &["far"]),
            ("kernel/lib/far.ko", &[]),
            ("kernel/fs/y/y.ko", &[]),
        ]);
        let found =
            set.select(&["kernel/fs/".to_owned()], &["kernel/fs/y/".to_owned()]).expect("known");
        assert_eq!(names(&found), ["far", "x"]);
    }

    #[test]
    fn a_name_the_kernel_does_not_have_is_an_error_and_a_built_in_one_is_not() {
        let set = set(&[("kernel/a.ko", &[])]);
        assert!(set.with_needs(&["nvme".to_owned()]).expect("built in").is_empty());
        assert!(set.with_needs(&["typo".to_owned()]).is_err());
        assert!(set.select(&["kernel/typo/".to_owned()], &[]).is_err());
    }

    #[test]
    fn a_signature_is_split_off_so_that_both_parts_make_the_file_again() {
        let signed =
            [b"\x7fELF module".as_slice(), b"sig", &[0; 8], &3_u32.to_be_bytes(), SIGNATURE_MARK]
                .concat();
        let (module, signature) = split_signature(&signed);
        assert_eq!(module, b"\x7fELF module");
        assert_eq!([module, signature.expect("a signature")].concat(), signed);
        assert_eq!(split_signature(b"\x7fELF"), (b"\x7fELF".as_slice(), None));
    }

    #[test]
    fn a_damaged_signature_length_leaves_the_file_whole() {
        let odd = [b"x".as_slice(), &[0; 8], &u32::MAX.to_be_bytes(), SIGNATURE_MARK].concat();
        assert_eq!(split_signature(&odd), (odd.as_slice(), None));
    }

    #[test]
    fn only_the_part_before_post_is_wanted_first() {
        assert_eq!(softdep_pre("pre: crc32c-intel b post: c"), ["crc32c_intel", "b"]);
    }
}
