//! Places in a root that a stranger has laid out: found as if that root were `/`, made when absent. Links lead where they
//! would lead in the container, never out of it, and every step is by descriptor, so that nobody can swap one meanwhile.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, bail};
use ingot_linux::beneath;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// Most links on one way: the kernel's own limit.
const LINKS_MAX: usize = 40;

/// What is made where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// A folder.
    Folder,
    /// An empty file.
    File,
}

/// The place at `path`, which is made, with the folders above it, when it is not there.
pub(crate) fn find_or_make(root: &OwnedFd, path: &str, make: Make) -> anyhow::Result<OwnedFd> {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return root.try_clone().context("keep the root");
    }
    match beneath::resolve(root, Path::new(path)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        found => return found.with_context(|| format!("find /{path}")),
    }
    walk(root, path, make).with_context(|| format!("make /{path}"))
}

/// A folder that must not be, nor lie behind, a link: the kernel's own file systems are mounted there (CVE-2019-19921).
pub(crate) fn real_folder(root: &OwnedFd, path: &str) -> anyhow::Result<OwnedFd> {
    let path = path.trim_matches('/');
    let open = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
    };
    if let Err(rustix::io::Errno::NOENT) = open() {
        find_or_make(root, path, Make::Folder)?;
    }
    open().with_context(|| format!("/{path} must be a folder of its own"))
}

/// Goes there step by step, and makes what is missing.
fn walk(root: &OwnedFd, path: &str, make: Make) -> anyhow::Result<OwnedFd> {
    let mut above = vec![root.try_clone().context("keep the root")?];
    let mut parts: VecDeque<Vec<u8>> = split(path.as_bytes());
    let mut links = 0;
    while let Some(part) = parts.pop_front() {
        let Some(here) = above.last() else { bail!("no root") };
        if part == b".." {
            if above.len() > 1 {
                above.pop();
            }
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(here, &part[..], flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => {
                make_one(here, &part, if parts.is_empty() { make } else { Make::Folder })?
            }
            found => found?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
        if kind != FileType::Symlink {
            above.push(found);
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            bail!("too many links");
        }
        let to = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
        if to.first() == Some(&b'/') {
            above.truncate(1);
        }
        let mut to = split(&to);
        to.append(&mut parts);
        parts = to;
    }
    above.pop().context("no root")
}

fn split(path: &[u8]) -> VecDeque<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}

fn make_one(here: &OwnedFd, name: &[u8], make: Make) -> anyhow::Result<OwnedFd> {
    match make {
        Make::Folder => rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o755))?,
        Make::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::openat(here, name, flags, Mode::from_raw_mode(0o644))?;
        }
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(here, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("root/etc")).unwrap();
        std::fs::create_dir_all(folder.path().join("outside")).unwrap();
        let root = beneath::folder(&folder.path().join("root")).unwrap();
        (folder, root)
    }

    #[test]
    fn what_is_absent_is_made_and_found_again() {
        let (folder, root) = root();
        find_or_make(&root, "/a/b/file", Make::File).unwrap();
        find_or_make(&root, "/a/b/file", Make::Folder).unwrap();
        find_or_make(&root, "/a/c", Make::Folder).unwrap();
        assert!(folder.path().join("root/a/b/file").is_file());
        assert!(folder.path().join("root/a/c").is_dir());
        assert!(find_or_make(&root, "/a/b/file/c", Make::File).is_err());
    }

    #[test]
    fn a_link_to_nothing_is_filled_where_it_leads_in_the_container() {
        let (folder, root) = root();
        let at = |path: &str| folder.path().join("root").join(path);
        symlink("../run/resolve/resolv.conf", at("etc/resolv.conf")).unwrap();
        symlink("/run/absolute", at("etc/hosts")).unwrap();
        find_or_make(&root, "/etc/resolv.conf", Make::File).unwrap();
        find_or_make(&root, "/etc/hosts", Make::File).unwrap();
        assert!(at("run/resolve/resolv.conf").is_file() && at("run/absolute").is_file());
    }

    #[test]
    fn cve_2024_45310_nothing_is_made_outside_through_a_link() {
        let (folder, root) = root();
        let at = |path: &str| folder.path().join("root").join(path);
        let outside = folder.path().join("outside");
        symlink("../../../../../../../../outside/up", at("up")).unwrap();
        symlink(outside.join("absolute"), at("absolute")).unwrap();
        symlink("/proc/self/cwd/magic", at("magic")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for path in ["up", "absolute", "magic", "loop", "../outside/new", "up/new"] {
            // It may fail, or land inside; never outside.
            let _ = find_or_make(&root, path, Make::File);
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!Path::new("magic").exists());
        assert!(find_or_make(&root, "loop", Make::File).is_err());
    }

    #[test]
    fn cve_2019_19921_the_kernels_file_systems_are_not_mounted_behind_links() {
        let (folder, root) = root();
        symlink("etc", folder.path().join("root/proc")).unwrap();
        assert!(real_folder(&root, "/proc").is_err());
        assert!(real_folder(&root, "/proc/sub").is_err());
        assert!(real_folder(&root, "/sys/fs").is_ok());
        std::fs::write(folder.path().join("root/file"), "").unwrap();
        assert!(real_folder(&root, "/file").is_err());
    }
}
