//! The namespaces of a container: those that are there are opened before anything is given up, and entered by their
//! descriptors.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::spec::{Namespace, NamespaceKind};

/// Namespaces of one container.
pub(crate) struct Namespaces {
    /// To enter, as the root of the node.
    entered: Vec<(LinkNameSpaceType, OwnedFd)>,
    /// That of other containers whose processes it sees.
    pid: Option<OwnedFd>,
    /// It gets a new one, and is the first process in it.
    pub(crate) own_pid: bool,
    /// That of the pod.
    pub(crate) user: Option<OwnedFd>,
}

impl Namespaces {
    /// Opens all that are there.
    pub(crate) fn open(list: &[Namespace]) -> anyhow::Result<Self> {
        let mut all = Self { entered: Vec::new(), pid: None, own_pid: false, user: None };
        for wanted in [NamespaceKind::Mount, NamespaceKind::Cgroup] {
            if !list.iter().any(|one| one.kind == wanted && one.path.is_none()) {
                bail!("a container must have a namespace {wanted:?} of its own");
            }
        }
        for one in list {
            let opened = match &one.path {
                Some(path) => Some(
                    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .with_context(|| format!("open the namespace {}", path.display()))?,
                ),
                None => None,
            };
            let kind = match (one.kind, opened) {
                (NamespaceKind::Mount | NamespaceKind::Cgroup, None) => continue,
                (NamespaceKind::Pid, None) => {
                    all.own_pid = true;
                    continue;
                }
                (NamespaceKind::Pid, pid) => {
                    all.pid = pid;
                    continue;
                }
                (NamespaceKind::User, Some(user)) => {
                    all.user = Some(user);
                    continue;
                }
                (NamespaceKind::Ipc, Some(fd)) => {
                    (LinkNameSpaceType::InterProcessCommunication, fd)
                }
                (NamespaceKind::Uts, Some(fd)) => (LinkNameSpaceType::HostNameAndNISDomainName, fd),
                (NamespaceKind::Network, Some(fd)) => (LinkNameSpaceType::Network, fd),
                (kind, _) => bail!("a namespace {kind:?} that cannot be had like this"),
            };
            all.entered.push(kind);
        }
        Ok(all)
    }

    /// Enters all but those of processes, of users and of cgroups.
    pub(crate) fn enter(&self) -> anyhow::Result<()> {
        for (kind, namespace) in &self.entered {
            move_into_link_name_space(namespace.as_fd(), Some(*kind))
                .with_context(|| format!("enter a namespace of the pod ({kind:?})"))?;
        }
        Ok(())
    }

    /// Has children of this process born among the processes of another container.
    pub(crate) fn enter_pid(&self) -> anyhow::Result<()> {
        let Some(namespace) = &self.pid else { return Ok(()) };
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .context("enter the namespace of processes")
    }

    /// Enters the user namespace, if there is one.
    pub(crate) fn enter_user(&self) -> anyhow::Result<()> {
        let Some(namespace) = &self.user else { return Ok(()) };
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))
            .context("enter the user namespace of the pod")
    }
}
