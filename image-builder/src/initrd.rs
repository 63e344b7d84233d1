//! What the initrd holds: the first program, the modules the root needs, and the order they load in.

use crate::modules::{Module, ModuleError, ModuleSet};
use crate::recipe::Initrd;
use crate::write::cpio::Entry;

/// One module of the initrd, and when it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned<'a> {
    /// The module.
    pub module: &'a Module,
    /// Hardware patterns, one of which must be present; empty for always.
    pub patterns: Vec<String>,
}

/// Modules of the initrd in load order: what is always needed first, controllers, then what sits on them.
///
/// A module that a controller drags in is loaded when that controller is.
///
/// # Errors
/// [`ModuleError`] for names the kernel does not have.
pub fn plan<'a>(set: &'a ModuleSet, recipe: &Initrd) -> Result<Vec<Planned<'a>>, ModuleError> {
    let mut planned: Vec<Planned<'a>> = Vec::new();
    for module in set.with_needs(&recipe.always)? {
        planned.push(Planned { module, patterns: Vec::new() });
    }
    for name in &recipe.by_hardware {
        let patterns = patterns_of(set, recipe, name)?;
        for module in set.with_needs(std::slice::from_ref(name))? {
            add(&mut planned, module, &patterns);
        }
    }
    for on_top in &recipe.on_top {
        let mut patterns = Vec::new();
        for controller in &on_top.of {
            patterns.extend(patterns_of(set, recipe, controller)?);
        }
        for module in set.with_needs(std::slice::from_ref(&on_top.module))? {
            add(&mut planned, module, &patterns);
        }
    }
    Ok(planned)
}

/// Adds a module, or more reasons to load one that is there; one that is always loaded stays so.
fn add<'a>(planned: &mut Vec<Planned<'a>>, module: &'a Module, patterns: &[String]) {
    if patterns.is_empty() {
        return;
    }
    match planned.iter_mut().find(|one| one.module.name == module.name) {
        None => planned.push(Planned { module, patterns: patterns.to_vec() }),
        Some(one) if one.patterns.is_empty() => {}
        Some(one) => {
            for pattern in patterns {
                if !one.patterns.contains(pattern) {
                    one.patterns.push(pattern.clone());
                }
            }
        }
    }
}

/// Hardware patterns of a module by name; none for one that is built in. The recipe may narrow them.
fn patterns_of(set: &ModuleSet, recipe: &Initrd, name: &str) -> Result<Vec<String>, ModuleError> {
    let order = set.with_needs(&[name.to_owned()])?;
    if let Some(narrow) =
        recipe.narrow.get(name).filter(|narrow| !narrow.is_empty() && !order.is_empty())
    {
        return Ok(narrow.split_whitespace().map(str::to_owned).collect());
    }
    // The module itself is the last of what it needs. Names that are no hardware identifiers have no colon.
    let aliases = order.last().map(|module| module.aliases.as_slice()).unwrap_or_default();
    Ok(aliases.iter().filter(|alias| alias.contains(':')).cloned().collect())
}

/// The text of `/modules.list`: one line for each module in load order, `<path> always` or `<path> if-alias <pattern>...`.
#[must_use]
pub fn list(planned: &[Planned<'_>]) -> String {
    let line = |one: &Planned<'_>| {
        let when = if one.patterns.is_empty() {
            "always".to_owned()
        } else {
            format!("if-alias {}", one.patterns.join(" "))
        };
        format!("{} {when}\n", path(one.module))
    };
    planned.iter().map(line).collect()
}

/// The entries of the archive. `first` is the first program's bytes.
///
/// # Errors
/// A module file that cannot be read.
pub fn entries(
    set: &ModuleSet,
    planned: &[Planned<'_>],
    first: Vec<u8>,
) -> std::io::Result<Vec<Entry>> {
    let directories = ["dev", "modules", "proc", "sys", "sysroot"];
    let mut entries: Vec<Entry> = directories.iter().map(|path| Entry::directory(path)).collect();
    // Before devtmpfs is mounted the kernel opens this for the first program's output.
    entries.push(Entry::character_device("dev/console", 5, 1));
    entries.push(Entry::file("init", 0o755, first));
    entries.push(Entry::file("modules.list", 0o644, list(planned).into_bytes()));
    for one in planned {
        for file in set.files(one.module) {
            let suffix = file.strip_prefix(&one.module.path).unwrap_or_default();
            let path = format!("{}{suffix}", path(one.module).trim_start_matches('/'));
            entries.push(Entry::file(&path, 0o644, fs_err::read(set.dir.join(&file))?));
        }
    }
    Ok(entries)
}

fn path(module: &Module) -> String {
    format!("/modules/{}.ko", module.name)
}
