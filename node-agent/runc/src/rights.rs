//! What a container's first process may do, set by ourselves once libcontainer has given it everything else: libcontainer
//! would make the filter of system calls anew for each container.
//!
//! Without no_new_privs the filter needs CAP_SYS_ADMIN, so it is loaded while the process has all capabilities, and they
//! are given up right after. Nothing else runs in between.

use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde_json::Value;

use crate::exec::plan::{Capabilities, capability_set};
use crate::seccomp::Filter;

/// Rights of a container.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    bounding: CapabilitySet,
    sets: CapabilitySets,
    ambient: CapabilitySet,
    no_new_privileges: bool,
    filter: Option<Filter>,
}

impl Rights {
    /// Takes the rights out of a spec, so that libcontainer leaves them to us. `filters` is where filters are kept.
    pub(crate) fn take(spec: &mut Value, filters: &Path) -> anyhow::Result<Self> {
        let process = spec.get_mut("process").and_then(Value::as_object_mut);
        let process = process.context("the spec has no process")?;
        // Without them the process would keep all.
        let Some(capabilities) = process.remove("capabilities") else {
            bail!("the spec says nothing of capabilities")
        };
        let sets: Capabilities =
            serde_json::from_value(capabilities).context("understand the capabilities")?;
        let no_new_privileges =
            process.get("noNewPrivileges").and_then(Value::as_bool).unwrap_or(false);
        let linux = spec.get_mut("linux").and_then(Value::as_object_mut);
        let profile = linux.and_then(|linux| linux.remove("seccomp"));
        Ok(Self {
            bounding: capability_set(&sets.bounding)?,
            sets: CapabilitySets {
                effective: capability_set(&sets.effective)?,
                permitted: capability_set(&sets.permitted)?,
                inheritable: capability_set(&sets.inheritable)?,
            },
            ambient: capability_set(&sets.ambient)?,
            no_new_privileges,
            filter: profile.map(|profile| Filter::of(&profile, filters)).transpose()?,
        })
    }

    /// Gives this process these rights and no other. It has its user and groups already, and all capabilities.
    pub(crate) fn apply(&self) -> anyhow::Result<()> {
        bound(self.bounding).context("bound the capabilities")?;
        if !self.no_new_privileges {
            self.load()?;
        }
        rustix::thread::clear_ambient_capability_set().context("clear ambient capabilities")?;
        rustix::thread::set_capabilities(None, self.sets).context("set capabilities")?;
        for capability in self.ambient.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true)
                .context("set ambient capabilities")?;
        }
        if self.no_new_privileges {
            self.load()?;
        }
        Ok(())
    }

    fn load(&self) -> anyhow::Result<()> {
        self.filter.as_ref().map_or(Ok(()), Filter::load).context("load the seccomp filter")
    }
}

/// Takes every capability but these out of what this process and its programs can ever have.
pub(crate) fn bound(capabilities: CapabilitySet) -> rustix::io::Result<()> {
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

#[cfg(test)]
mod tests;
