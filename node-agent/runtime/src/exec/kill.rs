//! Killing what was started in a container besides its own processes, and knowing what that is.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ingot_linux::process::{self, Family, Pidfd};
use ingot_runc_api::Created;

use crate::context::Context;

/// Looks that are taken for processes that were born during the kill. A program that forks faster than this is ended by
/// the limit of its container on processes, or lives until the container is killed.
const ROUNDS_MAX: usize = 16;

/// Cgroups in a container's that are looked into at most.
const CGROUPS_MAX: usize = 1024;

/// Where it is written down which programs run in a container besides its own.
pub(super) fn records(run: &Path) -> PathBuf {
    run.join("execs")
}

/// A program has ended.
pub(super) fn forget(record: &Path) {
    // Gone when the container is.
    let _ = std::fs::remove_file(record);
}

/// Kills a process of the cgroup, everything in the session that it began, and everything that descends from it.
pub(super) fn tree(cgroup: &Path, process: (i32, u64)) {
    for _ in 0..ROUNDS_MAX {
        let alive = members(cgroup);
        let victims = belonging(&alive, process);
        if victims.is_empty() {
            return;
        }
        for (pid, start_time) in victims {
            let killed = Pidfd::open_exact(pid, start_time)
                .and_then(|process| process.signal(rustix::process::Signal::KILL));
            if let Err(error) = killed {
                // It has just ended.
                tracing::debug!(pid, error = crate::report::chain(&error), "kill");
            }
        }
        // A killed process needs a moment to go; without one we would only look at the dying.
        std::thread::yield_now();
    }
}

/// The processes that belong to `process`: its session, and the children of those that belong, however deep.
fn belonging(alive: &HashMap<i32, Family>, (pid, start_time): (i32, u64)) -> Vec<(i32, u64)> {
    // Somebody else has the pid now; then nobody can be left in the session, whose number it would be.
    let reused = alive.get(&pid).is_some_and(|family| family.start_time != start_time);
    let mut found: HashSet<i32> = HashSet::from([pid]);
    loop {
        let before = found.len();
        for (&candidate, family) in alive {
            let ours = found.contains(&family.parent) || family.session == pid;
            if ours && family.start_time >= start_time && !reused {
                found.insert(candidate);
            }
        }
        if found.len() == before {
            break;
        }
    }
    let known = |pid: i32| alive.get(&pid).map(|family| (pid, family.start_time));
    if reused { Vec::new() } else { found.into_iter().filter_map(known).collect() }
}

/// Every process in a cgroup and below. Zombies count: a parent that has ended still has children.
fn members(cgroup: &Path) -> HashMap<i32, Family> {
    let (mut folders, mut alive) = (vec![cgroup.to_owned()], HashMap::new());
    let mut at = 0;
    while let Some(folder) = folders.get(at).cloned() {
        at += 1;
        // Gone meanwhile.
        let pids = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.parse().ok()) {
            if let Ok(family) = process::family(pid) {
                alive.insert(pid, family);
            }
        }
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if folders.len() < CGROUPS_MAX && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    alive
}

/// Kills every program that a former agent started in a container and that nobody waits for any more. Returns how many.
pub(crate) fn sweep(context: &Context) -> usize {
    let containers = context.paths().run.join("containers");
    let mut killed = 0;
    for container in std::fs::read_dir(containers).into_iter().flatten().flatten() {
        let records = records(&container.path());
        for record in std::fs::read_dir(records).into_iter().flatten().flatten() {
            killed += usize::from(sweep_one(&record.path()));
        }
    }
    killed
}

fn sweep_one(record: &Path) -> bool {
    // Empty when the helper was killed before there was a process: then the process is, too.
    let bytes = std::fs::read(record).unwrap_or_default();
    let created: Option<Created> = serde_json::from_slice(&bytes).ok();
    let alive = created.and_then(|Created { pid, start_time }| {
        let family = process::family(pid).ok().filter(|family| family.start_time == start_time)?;
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let folder = Path::new(ingot_linux::cgroup::ROOT).join(path);
        Some((folder, (pid, family.start_time)))
    });
    if let Some((cgroup, process)) = &alive {
        tree(cgroup, *process);
    }
    forget(record);
    alive.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(parent: i32, session: i32, start_time: u64) -> Family {
        Family { parent, session, start_time }
    }

    #[test]
    fn session_and_descendants_belong_to_a_program_and_nobody_else() {
        let alive = HashMap::from([
            (1, family(0, 1, 10)),   // the container's first process
            (2, family(1, 1, 11)),   // its child
            (50, family(0, 50, 90)), // the program
            (51, family(50, 50, 91)),
            (52, family(51, 52, 92)), // began a session, but its parent lives
            (53, family(52, 52, 93)),
            (54, family(1, 50, 94)), // its parent is gone, the session stays
            (55, family(1, 55, 95)), // a daemon: the container's now
            (60, family(0, 60, 96)), // another program
        ]);
        let mut found = belonging(&alive, (50, 90));
        found.sort_unstable();
        assert_eq!(found, [(50, 90), (51, 91), (52, 92), (53, 93), (54, 94)]);
    }

    #[test]
    fn what_the_program_left_in_its_session_is_found_after_its_end() {
        let alive = HashMap::from([(1, family(0, 1, 10)), (54, family(1, 50, 94))]);
        assert_eq!(belonging(&alive, (50, 90)), [(54, 94)]);
    }

    #[test]
    fn a_reused_pid_is_nobody_of_ours() {
        let alive = HashMap::from([(50, family(1, 50, 200)), (51, family(50, 50, 201))]);
        assert!(belonging(&alive, (50, 90)).is_empty());
    }

    #[test]
    fn a_record_of_a_process_that_is_gone_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("1-0", ""), ("1-1", r#"{"pid":1,"start_time":1}"#), ("1-2", "{")] {
            let record = folder.path().join(name);
            std::fs::write(&record, text).unwrap();
            assert!(!sweep_one(&record));
            assert!(!record.exists());
        }
    }
}
