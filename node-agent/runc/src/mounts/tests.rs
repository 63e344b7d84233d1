//! Paths that a stranger has laid out do not lead out of their folder.

use std::os::unix::fs::symlink;

use super::*;

fn volume() -> (tempfile::TempDir, OwnedFd) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("volume/real")).unwrap();
    std::fs::create_dir_all(folder.path().join("outside")).unwrap();
    let root = beneath::folder(&folder.path().join("volume")).unwrap();
    (folder, root)
}

#[test]
fn folders_are_made_below_the_root_and_found_again() {
    let (folder, root) = volume();
    inside(&root, Path::new("a/b/c"), true).unwrap();
    assert!(folder.path().join("volume/a/b/c").is_dir());
    inside(&root, Path::new("a/b/c"), true).unwrap();
    inside(&root, Path::new(""), true).unwrap();
    assert!(inside(&root, Path::new("absent"), false).is_err());
}

#[test]
fn cve_2024_45310_no_folder_is_made_outside_through_a_link() {
    let (folder, root) = volume();
    let link = |to: &str, at: &str| symlink(to, folder.path().join("volume").join(at)).unwrap();
    link("../outside", "up");
    link(folder.path().join("outside").to_str().unwrap(), "absolute");
    link("/proc/self/cwd", "magic");
    for path in ["up/new", "absolute/new", "magic/new", "../outside/new"] {
        // It may fail, or land inside; never outside.
        let _ = inside(&root, Path::new(path), true);
    }
    assert_eq!(std::fs::read_dir(folder.path().join("outside")).unwrap().count(), 0);
    assert!(!Path::new("new").exists());
}

#[test]
fn cve_2021_30465_a_target_swapped_for_a_link_is_still_inside() {
    let (folder, root) = volume();
    let real = folder.path().join("volume/real");
    let found = inside(&root, Path::new("real"), false).unwrap();
    std::fs::remove_dir(&real).unwrap();
    symlink("../outside", &real).unwrap();
    // What was opened stays what it was, and a new look does not leave the folder.
    assert_eq!(beneath::kind(&found).unwrap(), Kind::Folder);
    assert_eq!(rustix::fs::fstat(&found).unwrap().st_nlink, 0);
    assert!(inside(&root, Path::new("real"), false).is_err());
}

#[test]
fn cve_2019_19921_links_of_the_kernel_are_never_followed() {
    let (folder, root) = volume();
    symlink("/proc/self/root", folder.path().join("volume/escape")).unwrap();
    assert!(inside(&root, Path::new("escape/etc"), false).is_err());
    // A procfs mounted in a volume would have the same links.
    let node = beneath::folder(Path::new("/")).unwrap();
    assert!(inside(&node, Path::new("proc/self/root/etc"), false).is_err());
    assert!(inside(&node, Path::new("proc/self/fd/0"), false).is_err());
}
