//! Secrets stay secret by whatever path, and everything else can be read.

use super::*;
use std::fs;

#[test]
fn secrets_are_refused() {
    for path in [
        "/state/ingot/config/00000000000000000001.config",
        "/state/ingot/pki/node.pem",
        "/state/ingot",
        "/usr/share/ingot/config.yaml",
        "/proc/1/environ",
        "/proc/1/mem",
        "/proc/77/task/78/environ",
        "/proc/kcore",
        "/proc/kmsg",
        "/dev/vda",
        "/dev/kmsg",
        "/etc/kubernetes/pki/ca.key",
        "/sys/kernel/tracing/trace_pipe",
    ] {
        assert!(is_secret(Path::new(path)), "{path}");
    }
}

#[test]
fn what_operators_need_is_not_refused() {
    for path in [
        "/proc/net/tcp",
        "/proc/1/net/tcp",
        "/proc/1/smaps_rollup",
        "/proc/meminfo",
        "/proc/mounts",
        "/proc/1/status",
        "/sys/fs/cgroup/pods/x/cpu.stat",
        "/usr/share/ingot/release.json",
        "/var/log/ingot/pods/x/y/0.log",
        "/state",
        "/etc/resolv.conf",
    ] {
        assert!(!is_secret(Path::new(path)), "{path}");
    }
}

fn read_all(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Ok(Vec::new());
    read(path, 0, 0, &mut |piece| {
        match (piece, &mut bytes) {
            (Ok(piece), Ok(bytes)) => bytes.extend(piece),
            (Err(error), _) => bytes = Err(error),
            _ => {}
        }
        true
    });
    bytes
}

#[test]
fn a_link_does_not_lead_around_the_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("harmless");
    std::os::unix::fs::symlink("/proc/self/environ", &link).unwrap();
    assert!(matches!(read_all(&link), Err(FileError::Secret { .. })));
    let root = folder.path().join("root");
    std::os::unix::fs::symlink("/proc/self/root", &root).unwrap();
    assert!(matches!(read_all(&root.join("etc/hostname")), Err(FileError::Inspect(_))));
    let dots = Path::new("/proc/self/task/../environ");
    assert!(matches!(read_all(dots), Err(FileError::Secret { .. })));
}

#[test]
fn files_of_the_kernel_are_read_whole() {
    assert!(read_all(Path::new("/proc/meminfo")).unwrap().starts_with(b"MemTotal"));
    assert!(!read_all(Path::new("/proc/self/smaps_rollup")).unwrap().is_empty());
}

#[test]
fn devices_folders_and_relative_paths_are_no_files() {
    assert!(matches!(read_all(Path::new("/")), Err(FileError::Inspect(_))));
    assert!(matches!(read_all(Path::new("etc")), Err(FileError::Inspect(_))));
    assert!(matches!(read_all(Path::new("/dev/zero")), Err(FileError::Secret { .. })));
}

#[test]
fn a_part_of_a_file_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    fs::write(&file, "0123456789").unwrap();
    let mut bytes = Vec::new();
    read(&file, 2, 3, &mut |piece| {
        bytes.extend(piece.unwrap());
        true
    });
    assert_eq!(bytes, b"234");
}

#[test]
fn a_secret_folder_is_listed_but_not_entered() {
    let mut seen = Vec::new();
    list(Path::new("/"), true, true, &mut |entry| {
        let entry = entry.unwrap();
        let is_dev = entry.path.starts_with("/dev");
        if is_dev {
            seen.push(entry);
        }
        // Nothing of interest comes after it.
        !is_dev || seen.len() < 2
    });
    assert!(seen.iter().all(|entry| entry.path == Path::new("/dev")), "{seen:?}");
}

#[test]
fn a_listing_is_in_order_and_names_links() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("b")).unwrap();
    fs::write(folder.path().join("b/c.key"), "secret").unwrap();
    fs::write(folder.path().join("a"), "x").unwrap();
    std::os::unix::fs::symlink("a", folder.path().join("d")).unwrap();
    let mut seen = Vec::new();
    list(folder.path(), true, true, &mut |entry| {
        seen.push(entry.unwrap());
        true
    });
    let names: Vec<String> = seen
        .iter()
        .map(|e| e.path.strip_prefix(folder.path()).unwrap().display().to_string())
        .collect();
    assert_eq!(names, ["a", "b", "b/c.key", "d"]);
    assert_eq!(seen[0].size, 1);
    assert_eq!(seen[3].link_target.as_deref(), Some(Path::new("a")));
}
