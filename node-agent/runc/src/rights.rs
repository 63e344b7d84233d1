//! Who a program runs as and what it may do: the container's first one, and those executed in it later. The only code that
//! gives rights up.
//!
//! Without no_new_privs a filter of system calls needs CAP_SYS_ADMIN, so it is loaded while the process has all
//! capabilities, and they are given up right after. With it the filter comes last, and forbids nothing of what is done before.
//!
//! Nearly last: one capability is kept for the loading, and used for nothing else, because the kernel takes many times longer to
//! load a filter of somebody who has it not (`bpf_jit_harden`). To give it up is then the one call more that the filter sees. One
//! that does not allow that call, whatever its arguments, is loaded after all is given up.

use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::seccomp::{Filter, Source};
use crate::spec::Process;
use crate::step::{Failure, Step as _};

/// Capabilities in the order of their numbers (`linux/capability.h`).
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// With it in the node's user namespace, the kernel does not hide the constants of a filter. In another one it is worth nothing.
const FOR_LOADING: CapabilitySet = CapabilitySet::BPF;

/// User, groups, capabilities and filter.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    groups: Vec<u32>,
    bounding: CapabilitySet,
    sets: CapabilitySets,
    ambient: CapabilitySet,
    no_new_privileges: bool,
    filter: Option<Filter>,
    /// The filter allows what gives up capabilities, so that one may be kept until it is loaded.
    keep_for_loading: bool,
}

impl Rights {
    /// Those of a container. `filters` is where filters are kept.
    pub(crate) fn of(
        process: &Process,
        seccomp: Option<Source<'_>>,
        filters: &Path,
    ) -> anyhow::Result<Self> {
        let sets = &process.capabilities;
        let filter = seccomp.map(|source| Filter::of(source, filters)).transpose()?;
        let allowed = filter.as_ref().is_some_and(|it| it.always_allows(libc::SYS_capset));
        Ok(Self {
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids.clone(),
            bounding: capability_set(&sets.bounding)?,
            sets: CapabilitySets {
                effective: capability_set(&sets.effective)?,
                permitted: capability_set(&sets.permitted)?,
                inheritable: capability_set(&sets.inheritable)?,
            },
            ambient: capability_set(&sets.ambient)?,
            no_new_privileges: process.no_new_privileges,
            filter,
            keep_for_loading: process.no_new_privileges && allowed,
        })
    }

    /// Gives this process these rights and no other, but for what [`Rights::close`] takes. It is root with all capabilities.
    pub(crate) fn assume(&self) -> Result<(), Failure> {
        bound(self.bounding).step("bound the capabilities")?;
        rustix::thread::set_keep_capabilities(true).step("keep capabilities")?;
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        rustix::thread::set_thread_groups(&groups).step("set the supplementary groups")?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid).step("set the group")?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).step("set the user")?;
        rustix::thread::set_keep_capabilities(false).step("keep capabilities")?;
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).step("set no_new_privs")?;
        } else {
            let mut sets = rustix::thread::capabilities(None).step("read capabilities")?;
            sets.effective = sets.permitted;
            rustix::thread::set_capabilities(None, sets).step("raise capabilities")?;
            self.load()?;
        }
        rustix::thread::clear_ambient_capability_set().step("clear ambient capabilities")?;
        let mut sets = self.sets;
        sets.permitted |= self.kept_for_loading().step("read capabilities")?;
        rustix::thread::set_capabilities(None, sets).step("set capabilities")?;
        for capability in self.ambient.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true)
                .step("set ambient capabilities")?;
        }
        Ok(())
    }

    /// The last thing before the program: the filter, if it is not loaded yet, and what was kept for it.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        if !self.no_new_privileges {
            return Ok(());
        }
        let kept = self.kept_for_loading().step("read capabilities")?;
        if kept.is_empty() {
            return self.load();
        }
        let mut sets = self.sets;
        sets.permitted |= kept;
        sets.effective |= kept;
        rustix::thread::set_capabilities(None, sets).step("raise a capability")?;
        self.load()?;
        rustix::thread::set_capabilities(None, self.sets).step("set capabilities")
    }

    /// What this process has that makes the loading fast, when it can be given up afterwards.
    fn kept_for_loading(&self) -> rustix::io::Result<CapabilitySet> {
        if !self.keep_for_loading {
            return Ok(CapabilitySet::empty());
        }
        Ok(rustix::thread::capabilities(None)?.permitted & FOR_LOADING)
    }

    fn load(&self) -> Result<(), Failure> {
        self.filter.as_ref().map_or(Ok(()), Filter::load).step("load the seccomp filter")
    }
}

/// Takes every capability but these out of what this process and its programs can ever have.
fn bound(capabilities: CapabilitySet) -> rustix::io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if capabilities.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel has no more of them.
            Err(rustix::io::Errno::INVAL) => break,
            removed => removed?,
        }
    }
    Ok(())
}

/// Capabilities by their names.
fn capability_set(names: &[String]) -> anyhow::Result<CapabilitySet> {
    let mut bits = 0;
    for name in names {
        let known = name.strip_prefix("CAP_").unwrap_or(name);
        let number = CAPABILITIES.iter().position(|capability| *capability == known);
        bits |= 1_u64 << number.with_context(|| format!("unknown capability {name}"))?;
    }
    Ok(CapabilitySet::from_bits_retain(bits))
}

#[cfg(test)]
mod tests;
