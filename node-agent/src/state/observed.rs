//! What each controller last reported: conditions, links, volumes, certificate. Replaced as a whole by its one owner and
//! read by everyone; no history (that is what events are for).

use ingot_machine_config::v1::network::Network;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;

/// What a controller says of its part of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Controller.
    pub(crate) name: &'static str,
    /// How it is.
    pub(crate) state: ConditionState,
    /// What is waited for or what went wrong, one line.
    pub(crate) message: String,
    /// Since when `state` and `message` are so.
    pub(crate) since: SystemTime,
    /// When a wait ends.
    pub(crate) deadline: Option<SystemTime>,
    /// Generation of the config this speaks of; 0 before there is one.
    pub(crate) generation: u64,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConditionState {
    /// As wished.
    Ok,
    /// Not yet.
    Waiting,
    /// Not, and not without somebody's help or a later try.
    Failed,
}

/// A network link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkState {
    /// Name.
    pub(crate) name: String,
    /// MAC address, lower-case with colons; may be empty.
    pub(crate) mac: String,
    /// Carrier and up.
    pub(crate) up: bool,
    /// Largest packet in bytes.
    pub(crate) mtu: u32,
    /// It is a device, not a bridge or a pod's end of a cable.
    pub(crate) physical: bool,
    /// Addresses with prefix length.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
}

/// A volume of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Name of the partition.
    pub(crate) name: String,
    /// Where it is mounted.
    pub(crate) mount_point: String,
    /// Device node.
    pub(crate) device: String,
}

/// Everything observed, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    conditions: BTreeMap<&'static str, Condition>,
    /// Links, in kernel order.
    pub(crate) links: Vec<LinkState>,
    /// Mounted volumes.
    pub(crate) volumes: Vec<Volume>,
    /// Fingerprint of the certificate the API shows, lower-case hex; empty before there is one.
    pub(crate) fingerprint: String,
    /// Name the kernel has for this node.
    pub(crate) hostname: String,
    /// Whether the clock was set from the network.
    pub(crate) time_synchronized: bool,
    /// Whether the clock was without a time at the start and has none from the network yet: what it says is a guess.
    pub(crate) clock_lost: bool,
    /// DNS servers from DHCP and router advertisements.
    pub(crate) learned_dns: Vec<IpAddr>,
    /// NTP servers from DHCP.
    pub(crate) learned_ntp: Vec<IpAddr>,
    /// Search domains from DHCP and router advertisements.
    pub(crate) learned_search: Vec<String>,
    /// Hostname and network from a drive, for a node without a config.
    pub(crate) drive_network: Option<Network>,
    /// Host name from DHCP.
    pub(crate) dhcp_hostname: Option<String>,
}

/// The shared picture; cheap to clone.
#[derive(Clone)]
pub(crate) struct Observed {
    snapshot: Arc<Mutex<Snapshot>>,
    version: Arc<watch::Sender<u64>>,
}

impl Observed {
    /// Nothing observed yet.
    pub(crate) fn new() -> Self {
        Self { snapshot: Arc::default(), version: Arc::new(watch::Sender::new(0)) }
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // A panic aborts the program, so the lock is never poisoned; should it be, the data is still whole values.
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of everything.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Wakes its holder at each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Changes the picture; wakes readers when `change` says that it did.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot) -> bool) {
        if change(&mut self.lock()) {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Changes one field; wakes readers only when the value is another one.
    pub(crate) fn set<T: PartialEq>(&self, field: impl FnOnce(&mut Snapshot) -> &mut T, value: T) {
        self.update(|snapshot| {
            let field = field(snapshot);
            let changed = *field != value;
            *field = value;
            changed
        });
    }

    /// Reports a condition. `since` stays when state and message are the same.
    pub(crate) fn report(
        &self,
        name: &'static str,
        state: ConditionState,
        message: impl Into<String>,
        deadline: Option<SystemTime>,
        generation: u64,
    ) {
        let message = message.into();
        self.update(|snapshot| {
            let old = snapshot.conditions.get(name);
            let same = old.filter(|old| old.state == state && old.message == message);
            let since = same.map_or_else(SystemTime::now, |old| old.since);
            let new = Condition { name, state, message, since, deadline, generation };
            let changed = old != Some(&new);
            snapshot.conditions.insert(name, new);
            changed
        });
    }

    /// All conditions, by name.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        self.lock().conditions.values().cloned().collect()
    }
}

impl Snapshot {
    /// All conditions, by name.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.values()
    }
}
