//! The cgroup tree, read file by file. A cgroup that goes away while it is read is left out.

use std::fs;
use std::path::{Component, Path};

/// Where the tree is mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Cgroups read at most.
const CGROUPS_MAX: usize = 4096;
/// Levels read at most.
const DEPTH_MAX: usize = 16;

/// One cgroup. 0 where a file says "max" or is absent; bytes and microseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cgroup {
    pub(crate) path: String,
    pub(crate) cpu_weight: u64,
    pub(crate) cpu_max_quota_usec: u64,
    pub(crate) cpu_max_period_usec: u64,
    pub(crate) cpu_usage_usec: u64,
    pub(crate) memory_min: u64,
    pub(crate) memory_low: u64,
    pub(crate) memory_max: u64,
    pub(crate) memory_current: u64,
    pub(crate) memory_peak: u64,
    pub(crate) pids_max: u64,
    pub(crate) pids_current: u64,
    pub(crate) cpu_pressure: f64,
    pub(crate) memory_pressure: f64,
    pub(crate) io_pressure: f64,
    pub(crate) oom_kills: u64,
}

/// A cgroup and all below it, depth first, by name. `None` when there is no such cgroup.
pub(crate) fn tree(path: &str) -> Option<Vec<Cgroup>> {
    below(Path::new(ROOT), path)
}

fn below(root: &Path, path: &str) -> Option<Vec<Cgroup>> {
    let relative = Path::new(path.trim_matches('/'));
    // The kernel's tree has no links, so names that only go down stay in it.
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    if !root.join(relative).is_dir() {
        return None;
    }
    let mut found = Vec::new();
    walk(root, relative, 0, &mut found);
    Some(found)
}

fn walk(root: &Path, relative: &Path, depth: usize, found: &mut Vec<Cgroup>) {
    if found.len() >= CGROUPS_MAX || depth > DEPTH_MAX {
        return;
    }
    let folder = root.join(relative);
    found.push(read(&folder, &format!("/{}", relative.display())));
    let Ok(listing) = fs::read_dir(&folder) else { return };
    let folders = listing.flatten().filter(|item| item.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<_> = folders.map(|item| item.file_name()).collect();
    names.sort();
    for name in names {
        walk(root, &relative.join(name), depth + 1, found);
    }
}

fn read(folder: &Path, path: &str) -> Cgroup {
    let text = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
    let number = |file: &str| text(file).trim().parse().unwrap_or(0);
    let cpu_max = text("cpu.max");
    let mut cpu_max = cpu_max.split_whitespace().map(|word| word.parse().unwrap_or(0));
    Cgroup {
        path: path.to_owned(),
        cpu_weight: number("cpu.weight"),
        cpu_max_quota_usec: cpu_max.next().unwrap_or(0),
        cpu_max_period_usec: cpu_max.next().unwrap_or(0),
        cpu_usage_usec: field(&text("cpu.stat"), "usage_usec"),
        memory_min: number("memory.min"),
        memory_low: number("memory.low"),
        memory_max: number("memory.max"),
        memory_current: number("memory.current"),
        memory_peak: number("memory.peak"),
        pids_max: number("pids.max"),
        pids_current: number("pids.current"),
        cpu_pressure: pressure(&text("cpu.pressure")),
        memory_pressure: pressure(&text("memory.pressure")),
        io_pressure: pressure(&text("io.pressure")),
        oom_kills: field(&text("memory.events"), "oom_kill"),
    }
}

/// The number after a word at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// `some avg10` of a pressure file, in percent.
fn pressure(text: &str) -> f64 {
    let some = text.lines().find_map(|line| line.strip_prefix("some "));
    let average = some.and_then(|line| line.split(' ').find_map(|w| w.strip_prefix("avg10=")));
    average.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_with_its_limits() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join("pods/a");
        fs::create_dir_all(&pod).unwrap();
        fs::write(pod.join("cpu.max"), "25000 100000\n").unwrap();
        fs::write(pod.join("memory.max"), "max\n").unwrap();
        fs::write(pod.join("memory.events"), "low 0\noom 4\noom_kill 3\n").unwrap();
        fs::write(pod.join("cpu.pressure"), "some avg10=1.50 avg60=0.00\nfull avg10=9\n").unwrap();
        let tree = below(root.path(), "").unwrap();
        let paths: Vec<&str> = tree.iter().map(|group| group.path.as_str()).collect();
        assert_eq!(paths, ["/", "/pods", "/pods/a"]);
        let pod = &tree[2];
        assert_eq!((pod.cpu_max_quota_usec, pod.cpu_max_period_usec), (25_000, 100_000));
        assert_eq!((pod.memory_max, pod.oom_kills), (0, 3));
        assert!((pod.cpu_pressure - 1.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_path_does_not_leave_the_tree() {
        let root = tempfile::tempdir().unwrap();
        assert!(below(root.path(), "../..").is_none());
        assert!(below(root.path(), "pods/../..").is_none());
        assert!(below(root.path(), "none").is_none());
    }
}
