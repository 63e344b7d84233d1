//! Which shared libraries a program needs, found in unpacked packages: the few C tools of the image bring exactly these.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use object::read::elf::{Dyn, ElfFile64, ProgramHeader};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// A file could not be read.
    #[error("cannot read a program")]
    Read {
        /// Why, with the path.
        #[source]
        source: std::io::Error,
    },
    /// A file is not an ELF program.
    #[error("{path} is not a 64-bit ELF file")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: object::Error,
    },
    /// A library is in none of the packages.
    #[error("{program} needs {library}; add the package that holds it to `packages` of the recipe")]
    NoLibrary {
        /// Who needs it.
        program: PathBuf,
        /// What is missing.
        library: String,
    },
}

/// Directories below a package that may hold libraries, most likely first.
const LIBRARY_DIRS: &[&str] =
    &["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64"];

/// The libraries `program` needs, directly and indirectly, by the name it asks for them, and the file of each.
///
/// # Errors
/// [`ElfError`].
pub fn closure(
    program: &Path,
    packages: &[PathBuf],
) -> Result<BTreeMap<String, PathBuf>, ElfError> {
    let mut found = BTreeMap::new();
    let mut left = vec![program.to_owned()];
    while let Some(file) = left.pop() {
        for library in needed(&file)? {
            if found.contains_key(&library) {
                continue;
            }
            let path = find(&library, packages).ok_or_else(|| ElfError::NoLibrary {
                program: file.clone(),
                library: library.clone(),
            })?;
            left.push(path.clone());
            found.insert(library, path);
        }
    }
    Ok(found)
}

fn find(library: &str, packages: &[PathBuf]) -> Option<PathBuf> {
    let candidates =
        packages.iter().flat_map(|package| LIBRARY_DIRS.iter().map(move |dir| package.join(dir)));
    candidates.map(|dir| dir.join(library)).find(|path| path.is_file())
}

/// `DT_NEEDED` names of one file.
fn needed(path: &Path) -> Result<Vec<String>, ElfError> {
    let bytes = fs_err::read(path).map_err(|source| ElfError::Read { source })?;
    let format = |source| ElfError::Format { path: path.to_owned(), source };
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).map_err(format)?;
    let endian = file.endian();
    let Some(table) = file.elf_section_table().dynamic(endian, &*bytes).map_err(format)? else {
        return Ok(Vec::new());
    };
    let (entries, strings_at) = table;
    let strings = file.elf_section_table().strings(endian, &*bytes, strings_at).map_err(format)?;
    let mut names = Vec::new();
    for entry in entries {
        if entry.d_tag(endian) == object::elf::DT_NEEDED {
            let name = entry.string(endian, strings).map_err(format)?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

/// The dynamic loader a program asks for, if it asks for one.
///
/// # Errors
/// [`ElfError`].
pub fn interpreter(path: &Path) -> Result<Option<String>, ElfError> {
    let bytes = fs_err::read(path).map_err(|source| ElfError::Read { source })?;
    let format = |source| ElfError::Format { path: path.to_owned(), source };
    let file = ElfFile64::<object::Endianness>::parse(&*bytes).map_err(format)?;
    for header in file.elf_program_headers() {
        if let Some(name) = header.interpreter(file.endian(), &*bytes).map_err(format)? {
            return Ok(Some(String::from_utf8_lossy(name).into_owned()));
        }
    }
    Ok(None)
}
