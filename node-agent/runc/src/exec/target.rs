//! The container that is entered: everything of it is opened first, then all of its namespaces are entered at once.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, bail};
use ingot_linux::process::Pidfd;
use ingot_runc_api::Exec;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::thread::ThreadNameSpaceType;

/// A running container, as open descriptors.
pub(super) struct Target {
    /// Its first process; that one and no other, however often its pid is reused.
    pub(super) process: Pidfd,
    /// The node's /proc.
    pub(super) proc: OwnedFd,
    /// Where the new process is born.
    pub(super) cgroup: OwnedFd,
    /// Its user namespace is not the node's.
    user: bool,
    /// Ids of the user namespace: inside, outside, how many.
    uids: Vec<[u32; 3]>,
    gids: Vec<[u32; 3]>,
}

impl Target {
    /// Opens everything.
    pub(super) fn open(request: &Exec) -> anyhow::Result<Self> {
        let pid = request.process.pid;
        let process = Pidfd::open_exact(pid, request.process.start_time)
            .context("the container does not run any more")?;
        let link = |who: &str| {
            let path = format!("/proc/{who}/ns/user");
            std::fs::read_link(&path).with_context(|| format!("read {path}"))
        };
        // Entering the namespace one is in already is an error. Should the process end here and its pid be reused, then
        // entering through the pidfd fails.
        let user = link(&pid.to_string())? != link("self")?;
        Ok(Self {
            process,
            proc: folder(Path::new("/proc"))?,
            cgroup: folder(&request.cgroup)?,
            user,
            uids: mapping(pid, "uid_map")?,
            gids: mapping(pid, "gid_map")?,
        })
    }

    /// The folder of the cgroup in which the container's first process is, when that is below the container's own: a
    /// container that has handed its controllers on may have no process beside them.
    pub(super) fn cgroup_of_process(&self, request: &Exec) -> anyhow::Result<OwnedFd> {
        let path = format!("{}/cgroup", request.process.pid);
        let file =
            rustix::fs::openat(&self.proc, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .context("read the cgroup of the container's process")?;
        let text = std::io::read_to_string(std::fs::File::from(file)).context("read the cgroup")?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).context("no cgroup")?;
        let place = Path::new(ingot_linux::cgroup::ROOT).join(path.trim_start_matches('/'));
        if !place.starts_with(&request.cgroup) {
            bail!("the container's process is in the cgroup {path}, not in the container's");
        }
        folder(&place)
    }

    /// User and group of the container as the node sees them; `None` when they mean nobody there.
    pub(super) fn outside(&self, uid: u32, gid: u32) -> Option<(Uid, Gid)> {
        Some((
            Uid::from_raw(translate(&self.uids, uid)?),
            Gid::from_raw(translate(&self.gids, gid)?),
        ))
    }

    /// Enters the mount namespace, still as the node's root.
    pub(super) fn enter_mounts(&self) -> anyhow::Result<()> {
        rustix::thread::move_into_thread_name_spaces(
            self.process.as_fd(),
            ThreadNameSpaceType::MOUNT,
        )
        .context("enter the mount namespace of the container")
    }

    /// Enters every other namespace but that of the cgroup, which would not let us move a process in from outside. Children
    /// are then born in the container's pid namespace. In a user namespace we are nobody until [`Target::become_root`]; to
    /// the cgroup's files we still are who made them.
    pub(super) fn enter(&self) -> anyhow::Result<()> {
        let mut kinds = ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
            | ThreadNameSpaceType::NETWORK
            | ThreadNameSpaceType::PROCESS_ID;
        if self.user {
            kinds |= ThreadNameSpaceType::USER;
        }
        rustix::thread::move_into_thread_name_spaces(self.process.as_fd(), kinds)
            .context("enter the namespaces of the container")
    }

    /// In a user namespace: its root, instead of the node's, whom the container's files do not know.
    pub(super) fn become_root(&self) -> std::io::Result<()> {
        if self.user {
            let (uid, gid) = (Uid::ROOT, Gid::ROOT);
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        Ok(())
    }

    /// Field 22 of the process's stat, read from the node's /proc.
    pub(super) fn start_time(&self, pid: i32) -> anyhow::Result<u64> {
        let path = format!("/proc/self/fd/{}/{pid}/stat", self.proc.as_raw_fd());
        let file = rustix::fs::openat(
            &self.proc,
            format!("{pid}/stat"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .with_context(|| format!("open {path}"))?;
        let text = std::io::read_to_string(std::fs::File::from(file)).context("read stat")?;
        // The command name in field 2 may hold anything, so count from its last parenthesis.
        text.rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19))
            .and_then(|field| field.parse().ok())
            .context("understand stat")
    }
}

fn folder(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

fn mapping(pid: i32, file: &str) -> anyhow::Result<Vec<[u32; 3]>> {
    let path = format!("/proc/{pid}/{file}");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(parse_mapping(&text))
}

fn parse_mapping(text: &str) -> Vec<[u32; 3]> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse().ok());
        Some([fields.next()??, fields.next()??, fields.next()??])
    };
    text.lines().filter_map(line).collect()
}

fn translate(mapping: &[[u32; 3]], id: u32) -> Option<u32> {
    mapping.iter().find_map(|&[inside, outside, count]| {
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_translated_within_their_range_only() {
        let mapping = parse_mapping("         0     100000      65536\n     70000 5 1\n");
        assert_eq!(translate(&mapping, 0), Some(100_000));
        assert_eq!(translate(&mapping, 65_535), Some(165_535));
        assert_eq!(translate(&mapping, 65_536), None);
        assert_eq!(translate(&mapping, 70_000), Some(5));
        let all = parse_mapping("0 0 4294967295\n");
        assert_eq!(translate(&all, 1000), Some(1000));
    }

    #[test]
    fn a_reused_pid_is_never_entered() {
        let pid = i32::try_from(std::process::id()).expect("pid");
        let request = Exec {
            bundle: "/".into(),
            filters: "/".into(),
            process: ingot_runc_api::Created { pid, start_time: 1 },
            cgroup: "/".into(),
            command: Vec::new(),
            environment: Vec::new(),
            stdio: ingot_runc_api::Stdio::All,
            size: None,
            record: "/".into(),
        };
        assert!(Target::open(&request).is_err());
    }
}
