//! Packages whose files go into an image: found by name, pinned by the lock file, unpacked one directory each.
//!
//! Each package is taken alone, without what it depends on: an image holds what its recipe names, and the builder
//! refuses a program whose libraries are missing. Unpacked directories are kept by content, so a second build needs
//! neither network nor time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ToolsError;
use super::apt::{self, Apt, Candidate};
use super::lock::{Lock, Locked};
use crate::digest;
use crate::progress::Progress;

/// How strictly the lock file is to be followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockMode {
    /// Take the locked version; when the mirror no longer has it, take the newest and say so.
    #[default]
    Prefer,
    /// Take the locked version or fail: for releases and for comparing two builds.
    Locked,
    /// Ignore the lock and take the newest: to write a new lock file.
    Newest,
}

/// One package, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Name, version and digest, as the lock file has them.
    pub locked: Locked,
    /// Directory that holds its files as they would lie below `/`.
    pub dir: PathBuf,
}

/// The store of downloaded and unpacked packages below `target/tools`.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Makes every named package present and unpacked, in the order of `names`.
    pub(crate) fn ensure(
        &self,
        names: &[String],
        lock: &Lock,
        mode: LockMode,
        progress: &dyn Progress,
    ) -> Result<Vec<Package>, ToolsError> {
        let mut chosen: Vec<Option<Locked>> =
            names.iter().map(|name| self.present(name, lock, mode)).collect();
        if chosen.iter().any(Option::is_none) {
            let missing: Vec<&String> = names
                .iter()
                .zip(&chosen)
                .filter(|(_, have)| have.is_none())
                .map(|(name, _)| name)
                .collect();
            let mut fetched = self.fetch(&missing, lock, mode, progress)?.into_iter();
            for slot in &mut chosen {
                if slot.is_none() {
                    *slot = fetched.next();
                }
            }
        }
        chosen.into_iter().flatten().map(|locked| self.unpacked(locked, progress)).collect()
    }

    /// The locked version, when its file is already here.
    fn present(&self, name: &str, lock: &Lock, mode: LockMode) -> Option<Locked> {
        let locked = lock.find(name).filter(|_| mode != LockMode::Newest)?;
        (self.unpacked_dir(locked).exists() || self.deb(&locked.sha256).exists())
            .then(|| locked.clone())
    }

    fn fetch(
        &self,
        names: &[&String],
        lock: &Lock,
        mode: LockMode,
        progress: &dyn Progress,
    ) -> Result<Vec<Locked>, ToolsError> {
        let apt = Apt::new(self.root.join("apt"))?;
        let mut fresh = !apt.has_index() || mode == LockMode::Newest;
        if fresh {
            apt.update(progress)?;
        }
        let mut wanted = Vec::new();
        for name in names {
            let mut found = choose(&apt, name, lock, mode);
            if !fresh && !matches!(found, Ok(Choice::Locked(..))) {
                // The index may merely be old.
                apt.update(progress)?;
                fresh = true;
                found = choose(&apt, name, lock, mode);
            }
            wanted.push(accept(found?, name, mode, progress)?);
        }
        self.download(&apt, &wanted, progress)?;
        Ok(wanted.into_iter().map(|(_, locked)| locked).collect())
    }

    fn download(
        &self,
        apt: &Apt,
        wanted: &[(Candidate, Locked)],
        progress: &dyn Progress,
    ) -> Result<(), ToolsError> {
        let io = |source| ToolsError::Prepare { source };
        let missing: Vec<Candidate> = wanted
            .iter()
            .filter(|(_, locked)| !self.deb(&locked.sha256).exists())
            .map(|(candidate, _)| candidate.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        progress.step(&format!("downloading {} packages for the image", missing.len()));
        let incoming = self.root.join("incoming");
        if incoming.exists() {
            fs_err::remove_dir_all(&incoming).map_err(io)?;
        }
        fs_err::create_dir_all(&incoming).map_err(io)?;
        fs_err::create_dir_all(self.root.join("debs")).map_err(io)?;
        apt.download(&missing, &incoming, progress)?;
        for entry in fs_err::read_dir(&incoming).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let (sha256, _) = digest::of_file(&path).map_err(io)?;
            fs_err::rename(&path, self.deb(&sha256)).map_err(io)?;
        }
        // apt checked the signature of the index; this checks that the file is the one that was asked for.
        match wanted.iter().find(|(_, locked)| !self.deb(&locked.sha256).exists()) {
            Some((_, locked)) => Err(ToolsError::WrongFile { name: locked.name.clone() }),
            None => Ok(()),
        }
    }

    fn unpacked(&self, locked: Locked, progress: &dyn Progress) -> Result<Package, ToolsError> {
        let io = |source| ToolsError::Prepare { source };
        let dir = self.unpacked_dir(&locked);
        if !dir.exists() {
            progress.detail(&format!("unpacking {} {}", locked.name, locked.version));
            // Not `with_extension`: package names hold dots.
            let partial = self.root.join("packages.partial");
            if partial.exists() {
                fs_err::remove_dir_all(&partial).map_err(io)?;
            }
            fs_err::create_dir_all(&partial).map_err(io)?;
            apt::extract(&self.deb(&locked.sha256), &partial)?;
            fs_err::create_dir_all(self.root.join("packages")).map_err(io)?;
            fs_err::rename(&partial, &dir).map_err(io)?;
        }
        Ok(Package { locked, dir })
    }

    fn deb(&self, sha256: &str) -> PathBuf {
        self.root.join("debs").join(format!("{sha256}.deb"))
    }

    fn unpacked_dir(&self, locked: &Locked) -> PathBuf {
        let short = locked.sha256.get(..16).unwrap_or(&locked.sha256);
        Path::new(&self.root).join("packages").join(format!("{}-{short}", locked.name))
    }
}

/// What was found for a name.
enum Choice {
    /// The locked version, still in the index.
    Locked(Candidate, Locked),
    /// The newest version; the locked one, if there was one, is gone.
    Newest(Candidate, Locked, Option<Locked>),
}

fn choose(apt: &Apt, name: &str, lock: &Lock, mode: LockMode) -> Result<Choice, ToolsError> {
    let locked = lock.find(name).filter(|_| mode != LockMode::Newest);
    if let Some(locked) = locked
        && let Ok(index) = apt.show(&[&locked.name])
        && let Some(same) =
            index.get(&locked.name).into_iter().flatten().find(|one| one.sha256 == locked.sha256)
    {
        return Ok(Choice::Locked(same.clone(), locked.clone()));
    }
    let unknown = || ToolsError::UnknownPackage { name: name.to_owned() };
    let index = apt.show(&[name]).map_err(|_| unknown())?;
    let mut newest = first(&index, name).ok_or_else(unknown)?;
    let mut stands_for = None;
    if let Some(kernel) = kernel_of(&newest.depends) {
        newest = first(&apt.show(&[&kernel])?, &kernel).ok_or_else(unknown)?;
        stands_for = Some(name.to_owned());
    }
    let entry = Locked {
        name: newest.name.clone(),
        version: newest.version.clone(),
        sha256: newest.sha256.clone(),
        stands_for,
    };
    Ok(Choice::Newest(newest, entry, locked.cloned()))
}

fn first(index: &BTreeMap<String, Vec<Candidate>>, name: &str) -> Option<Candidate> {
    index.get(name).and_then(|versions| versions.first()).cloned()
}

fn accept(
    choice: Choice,
    name: &str,
    mode: LockMode,
    progress: &dyn Progress,
) -> Result<(Candidate, Locked), ToolsError> {
    match choice {
        Choice::Locked(candidate, locked) => Ok((candidate, locked)),
        Choice::Newest(_, entry, gone) if mode == LockMode::Locked => Err(ToolsError::LockedGone {
            name: name.to_owned(),
            locked: gone
                .map_or_else(|| "nothing".to_owned(), |gone| format!("version {}", gone.version)),
            newest: entry.version,
        }),
        Choice::Newest(candidate, entry, gone) => {
            if let Some(gone) = gone {
                progress.notice(&format!(
                    "the mirror no longer has {} {}, which the lock file names; taking {} {} (the image will differ \
                     from the locked one; `ingot-image lock` writes a new lock file)",
                    gone.name, gone.version, entry.name, entry.version
                ));
            } else if mode == LockMode::Prefer {
                progress
                    .notice(&format!("{name} is not in the lock file; taking {}", entry.version));
            }
            Ok((candidate, entry))
        }
    }
}

/// A kernel metapackage depends on the package of one kernel release: its name.
fn kernel_of(depends: &str) -> Option<String> {
    let first = depends.split(',').next()?.trim();
    first
        .starts_with("linux-image-")
        .then(|| first.split_whitespace().next().map(str::to_owned))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_metapackage_names_the_kernel() {
        let depends = "linux-image-6.12.1+deb13-cloud-amd64 (= 6.12.1-1)";
        assert_eq!(kernel_of(depends).as_deref(), Some("linux-image-6.12.1+deb13-cloud-amd64"));
        assert_eq!(kernel_of("kmod, linux-base"), None);
    }

    #[test]
    fn a_downloaded_package_is_unpacked_into_an_empty_store() {
        let dir = tempfile::tempdir().expect("a folder");
        let (source, root) = (dir.path().join("source"), dir.path().join("tools"));
        for folder in [source.join("DEBIAN"), source.join("etc"), root.join("debs")] {
            fs_err::create_dir_all(folder).expect("a folder");
        }
        let control =
            "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y>\nDescription: x\n";
        fs_err::write(source.join("DEBIAN/control"), control).expect("the control file");
        fs_err::write(source.join("etc/x"), "content").expect("a file");
        let deb = dir.path().join("x.deb");
        let mut command = std::process::Command::new("dpkg-deb");
        command.arg("--build").arg(&source).arg(&deb);
        apt::output(command, "dpkg-deb --build").expect("a package");
        let store = Store::new(root);
        let sha256 = digest::of_file(&deb).expect("its digest").0;
        fs_err::rename(&deb, store.deb(&sha256)).expect("the store takes it");
        let locked =
            Locked { name: "x".to_owned(), version: "1".to_owned(), sha256, stands_for: None };
        let package = store.unpacked(locked, &crate::progress::Silent).expect("it is unpacked");
        assert_eq!(fs_err::read_to_string(package.dir.join("etc/x")).expect("its file"), "content");
    }

    fn newest(gone: bool) -> Choice {
        let entry = |version: &str| Locked {
            name: "x".to_owned(),
            version: version.to_owned(),
            sha256: version.to_owned(),
            stands_for: None,
        };
        Choice::Newest(Candidate::default(), entry("2"), gone.then(|| entry("1")))
    }

    #[test]
    fn a_locked_version_that_is_gone_is_an_error_when_the_lock_is_binding() {
        let error = accept(newest(true), "x", LockMode::Locked, &crate::progress::Silent)
            .expect_err("gone");
        let text = error.to_string();
        assert!(text.contains("version 1") && text.contains('2'), "{text}");
    }

    #[test]
    fn a_locked_version_that_is_gone_is_replaced_by_the_newest_otherwise() {
        let (_, entry) = accept(newest(true), "x", LockMode::Prefer, &crate::progress::Silent)
            .expect("the newest");
        assert_eq!(entry.version, "2");
    }
}
