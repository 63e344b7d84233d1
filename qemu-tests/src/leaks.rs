//! What a node holds at a moment, counted from outside the runtime: mounts, cgroups, network links, open files, files of its own. Two counts
//! show what was left behind in between. A library for suites; it decides nothing about how much is too much.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};

use crate::client::Api;

/// Folders in which the node keeps what belongs to pods. What is pulled stays on purpose.
const FOLDERS: &[&str] = &["/run/ingot", "/var/lib/ingot"];
/// Parts of paths that change without anything being left behind: logs, journals of the agent, and the image store.
const IGNORED: &[&str] = &["/log", "/images/", "/layers/", "/blobs/", ".tmp", "/cri.sock"];
/// A list longer than this is cut in messages.
const SHOWN: usize = 12;
/// Of a pod's uid; those of containers are longer.
const ID_LENGTH: usize = 36;
/// The page below a thread's stack.
const GUARD_BYTES: u64 = 4096;
/// Connections of the tests themselves come and go.
const OWN_DESCRIPTORS: usize = 6;

/// One count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Mount points of PID 1's namespace, pinned namespaces among them.
    pub mounts: BTreeSet<String>,
    /// Every cgroup.
    pub cgroups: BTreeSet<String>,
    /// Network links of the node.
    pub links: BTreeSet<String>,
    /// Files and folders that belong to pods.
    pub files: BTreeSet<String>,
    /// Open files of the agent.
    pub agent_descriptors: usize,
    /// Open files of PID 1, which keeps some for the agent.
    pub init_descriptors: usize,
}

impl Held {
    /// Counts now.
    pub async fn count(api: &mut Api) -> anyhow::Result<Self> {
        let agent = agent(api).await?;
        let mounts = api.read_text("/proc/1/mountinfo").await?;
        let cgroups = api.cgroups("").await?;
        let mut files = BTreeSet::new();
        for folder in FOLDERS {
            for file in api.files(folder).await? {
                if !IGNORED.iter().any(|word| file.path.contains(word)) {
                    files.insert(file.path);
                }
            }
        }
        let links = api.files("/sys/class/net").await?;
        Ok(Self {
            mounts: mounts.lines().filter_map(mount_point).collect(),
            cgroups: cgroups.into_iter().map(|cgroup| cgroup.path).collect(),
            links: links.into_iter().map(|link| link.path).collect(),
            files,
            agent_descriptors: api.files(&format!("/proc/{agent}/fd")).await?.len(),
            init_descriptors: api.files("/proc/1/fd").await?.len(),
        })
    }

    /// The same with a number in place of each id: what is there again after a boot has another id, and more of it has more numbers.
    #[must_use]
    pub fn without_ids(&self) -> Self {
        let numbered = |names: &BTreeSet<String>| {
            let mut seen = BTreeMap::<String, usize>::new();
            let mut number = |name: &String| {
                let name = without_ids(name);
                let number = seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(1);
                format!("{name} ({number})")
            };
            names.iter().map(&mut number).collect()
        };
        Self {
            mounts: numbered(&self.mounts),
            cgroups: numbered(&self.cgroups),
            links: self.links.clone(),
            files: numbered(&self.files),
            ..*self
        }
    }

    /// An error that names what there is now and was not before.
    pub fn compare(&self, now: &Self) -> anyhow::Result<()> {
        let mut leaked = Vec::new();
        for (what, before, after) in [
            ("mounts", &self.mounts, &now.mounts),
            ("cgroups", &self.cgroups, &now.cgroups),
            ("network links", &self.links, &now.links),
            ("files", &self.files, &now.files),
        ] {
            let new: Vec<&String> = after.difference(before).collect();
            if !new.is_empty() {
                let shown = &new[..new.len().min(SHOWN)];
                leaked.push(format!("{} {what}: {shown:?}", new.len()));
            }
        }
        for (whose, before, after) in [
            ("the agent", self.agent_descriptors, now.agent_descriptors),
            ("PID 1", self.init_descriptors, now.init_descriptors),
        ] {
            if after > before + OWN_DESCRIPTORS {
                leaked.push(format!("open files of {whose}: {before} before, {after} now"));
            }
        }
        if !leaked.is_empty() {
            bail!("left behind: {}", leaked.join("; "));
        }
        Ok(())
    }
}

/// Id of the agent's process.
pub async fn agent(api: &mut Api) -> anyhow::Result<i32> {
    let services = api.services().await?;
    let agent = services.into_iter().find(|service| service.name == "ingotd");
    agent.map(|agent| agent.pid).filter(|pid| *pid > 0).context("PID 1 runs no agent")
}

/// Proportional set size of a process in KiB.
pub async fn memory_kib(api: &mut Api, process: i32) -> anyhow::Result<u64> {
    Ok(memory(api, process).await?.total_kib())
}

/// Proportional set size of a process by what it is.
pub async fn memory(api: &mut Api, process: i32) -> anyhow::Result<Memory> {
    Memory::of(&api.read_text(&format!("/proc/{process}/smaps")).await?)
}

/// Memory of a process, in KiB of proportional set size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the program and its libraries are on disk.
    pub files: u64,
    /// The main heap.
    pub heap: u64,
    /// Other heaps and what was too large for one.
    pub anonymous: u64,
    /// Stacks of threads.
    pub stacks: u64,
}

impl Memory {
    /// All of it.
    #[must_use]
    pub fn total_kib(&self) -> u64 {
        self.files + self.heap + self.anonymous + self.stacks
    }

    /// Reads `/proc/PID/smaps`. Below the stack of a thread is a page that nobody may touch, and no heap is without write access.
    fn of(smaps: &str) -> anyhow::Result<Self> {
        let mut memory = Self::default();
        let mut kind = String::new();
        let mut guarded = false;
        for line in smaps.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["Pss:", kib, "kB"] => {
                    let kib: u64 = kib.parse().context("read Pss")?;
                    *match kind.as_str() {
                        "[heap]" => &mut memory.heap,
                        "[stack]" | "thread" => &mut memory.stacks,
                        "" => &mut memory.anonymous,
                        _ => &mut memory.files,
                    } += kib;
                }
                [range, rights, _, _, _, ref name @ ..] if range.contains('-') => {
                    let is_stack = guarded && rights == "rw-p" && name.is_empty();
                    kind = if is_stack { "thread".to_owned() } else { name.concat() };
                    guarded = rights == "---p" && length(range) == Some(GUARD_BYTES);
                }
                _ => {}
            }
        }
        anyhow::ensure!(memory.total_kib() > 0, "no Pss in smaps");
        Ok(memory)
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { files, heap, anonymous, stacks } = self;
        let total = self.total_kib();
        write!(
            f,
            "{total} KiB ({files} files, {heap} heap, {anonymous} other heaps, {stacks} stacks)"
        )
    }
}

/// A path without the parts that are hexadecimal and as long as the id of a container or pod.
fn without_ids(path: &str) -> String {
    let is_id = |part: &str| {
        part.len() >= ID_LENGTH && part.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    let parts = path.split('/').map(|part| if is_id(part) { "ID" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Bytes of `1000-3000`.
fn length(range: &str) -> Option<u64> {
    let (from, to) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    number(to)?.checked_sub(number(from)?)
}

/// The mount point of a line of mountinfo, with what is mounted: namespaces share a type but not a root.
fn mount_point(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let (root, point) = (words.nth(3)?, words.next()?);
    Some(format!("{point} ({root})"))
}

#[cfg(test)]
mod tests {
    use super::{Held, Memory, mount_point};

    #[test]
    fn memory_is_told_apart_by_what_it_is() {
        let smaps = "\
            400000-401000 r-xp 00000000 fe:00 12                     /usr/bin/ingotd\n\
            Size:                  4 kB\nPss:                   4 kB\nPss_Dirty:             0 kB\n\
            500000-600000 rw-p 00000000 00:00 0                      [heap]\nPss:                 300 kB\n\
            7f0000000000-7f0000100000 rw-p 00000000 00:00 0 \nPss:                  50 kB\n\
            7f0000100000-7f0000101000 ---p 00000000 00:00 0 \nPss:                   0 kB\n\
            7f0000101000-7f0000201000 rw-p 00000000 00:00 0 \nPss:                  16 kB\nVmFlags: rd wr\n\
            7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0          [stack]\nPss:                   8 kB\n";
        let memory = Memory::of(smaps).expect("smaps");
        assert_eq!(memory, Memory { files: 4, heap: 300, anonymous: 50, stacks: 24 });
        assert!(Memory::of("nothing").is_err());
    }

    #[test]
    fn what_is_new_is_named_and_what_went_away_is_not() {
        let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let held = |cgroups: &[&str], agent_descriptors| Held {
            mounts: set(&["/"]),
            cgroups: set(cgroups),
            links: set(&["lo"]),
            files: set(&[]),
            agent_descriptors,
            init_descriptors: 9,
        };
        let before = held(&["pods", "pods/a"], 20);
        assert!(before.compare(&held(&["pods"], 22)).is_ok());
        let error = before.compare(&held(&["pods", "pods/b"], 90)).expect_err("two leaks");
        let text = error.to_string();
        assert!(text.contains("pods/b") && text.contains("20 before, 90 now"), "{text}");
    }

    #[test]
    fn after_a_boot_ids_are_others_and_their_number_is_not() {
        let held = |ids: &[&str]| Held {
            mounts: ids.iter().map(|id| format!("/run/{}/root (/)", id.repeat(64))).collect(),
            cgroups: ["/pods".to_owned()].into(),
            links: ["lo".to_owned()].into(),
            files: ids.iter().map(|id| format!("/run/{}", id.repeat(64))).collect(),
            agent_descriptors: 20,
            init_descriptors: 9,
        };
        let before = held(&["a", "b"]);
        assert!(before.compare(&held(&["c", "d"])).is_err());
        assert!(before.without_ids().compare(&held(&["c", "d"]).without_ids()).is_ok());
        let more = before.without_ids().compare(&held(&["c", "d", "e"]).without_ids());
        let text = more.expect_err("one more").to_string();
        assert!(text.contains("1 mounts") && text.contains("/run/ID (3)"), "{text}");
    }

    #[test]
    fn a_mount_is_named_by_where_it_is_and_what_it_shows() {
        let line = "36 35 0:4 net:[4026532000] /run/ingot/x rw shared:2 - nsfs nsfs rw";
        assert_eq!(mount_point(line).as_deref(), Some("/run/ingot/x (net:[4026532000])"));
    }
}
