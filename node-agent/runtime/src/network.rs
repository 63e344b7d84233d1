//! The pod network: a bridge on the node, one veth pair per pod, addresses from the configured subnets, and the rules that let
//! pods out and the node's ports in. Sandboxes of the CRI are connected by CNI plugins instead, once these are configured.
//!
//! What a pod has (addresses, ports) is in its record before it is used, so all this is rebuilt from records. It changes no
//! link and no table but its own.

mod cni;
mod firewall;
mod kernel;
mod lease;
mod nft;
mod ports;
mod ranges;
mod uplink;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ingot_linux::netns::NetnsError;
use sha2::{Digest as _, Sha256};

use crate::config::{PortMapping, SandboxConfig};
use crate::durable::WriteError;
use crate::engine::{EngineConfig, Paths, Subnet};
use crate::report::chain;

/// Name of the bridge.
const BRIDGE: &str = "ingot0";

/// Name of the pod's end of its link.
const INSIDE: &str = "eth0";

/// Why a pod could not be connected or disconnected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The config gives no addresses to pods.
    #[error("there is no subnet for pods; set network.pods, or hostNetwork in the pod")]
    NoSubnet,
    /// All addresses of a subnet are taken.
    #[error("no free address is left in {address}/{prefix}")]
    Exhausted { address: IpAddr, prefix: u8 },
    /// No netlink socket.
    #[error("open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// The kernel refused.
    #[error("{what}")]
    Netlink {
        what: String,
        #[source]
        source: rtnetlink::Error,
    },
    /// A link that must be there is not.
    #[error("there is no link {name}")]
    NoLink { name: String },
    /// The pod's namespace could not be entered.
    #[error("work in the pod's network namespace")]
    Namespace(#[from] NetnsError),
    /// The pinned namespace could not be opened.
    #[error("open {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Forwarding could not be switched on.
    #[error("write {path}")]
    Sysctl {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The rules could not be changed.
    #[error("change the rules of the pod network")]
    Firewall(#[from] nft::NftError),
    /// A port of the node is not to be had.
    #[error("lead a port of the node to the pod")]
    Port(#[from] ports::PortError),
    /// Plugins could not do it.
    #[error("use CNI plugins")]
    Cni(#[from] cni::CniError),
    /// What the kubelet named could not be kept.
    #[error("keep the addresses for pods")]
    Ranges(#[source] WriteError),
    /// The blocking work was cut off: the agent ends.
    #[error("the agent is ending")]
    Ending,
}

/// Why no sandbox of the CRI can be connected now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    /// Plugins are configured and not ready.
    #[error("CNI: {0}")]
    Cni(String),
    /// Nothing is configured.
    #[error("there is no CNI configuration, and network.pods of the machine config has no subnet")]
    NoSubnet,
}

/// The bridge, who has which address, and which port leads to whom. Cheap to clone; all clones are the same network.
#[derive(Clone)]
pub(crate) struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    cni: cni::Cni,
    load_module: Arc<dyn Fn(&str) + Send + Sync>,
    state: Mutex<State>,
    /// One connection for everything outside of namespaces; none before the first use, and after it failed.
    kernel: Mutex<Option<kernel::Kernel>>,
    /// Index of the bridge, once it is as it should be. Two pods at a time would both try to make it.
    bridge: tokio::sync::Mutex<Option<u32>>,
    /// Whether the table says what the state says. Held while it is changed.
    firewall: tokio::sync::Mutex<bool>,
}

struct State {
    ranges: ranges::Ranges,
    leases: HashMap<String, Vec<IpAddr>>,
    /// The addresses given last, at most one for each subnet.
    last: Vec<IpAddr>,
    ports: ports::Ports,
}

impl State {
    fn lease(&mut self, key: &str, subnets: &[Subnet]) -> Result<Vec<IpAddr>, NetworkError> {
        if subnets.is_empty() {
            return Err(NetworkError::NoSubnet);
        }
        self.leases.remove(key);
        let taken: HashSet<IpAddr> = self.leases.values().flatten().copied().collect();
        let mut picked = Vec::new();
        for subnet in subnets {
            let last = self.last.iter().copied().find(|last| lease::contains(*subnet, *last));
            let free = lease::next_free(*subnet, &taken, last);
            let Subnet { address, prefix } = *subnet;
            let free = free.ok_or(NetworkError::Exhausted { address, prefix })?;
            self.last.retain(|last| !lease::contains(*subnet, *last));
            self.last.push(free);
            picked.push(free);
        }
        self.leases.insert(key.to_owned(), picked.clone());
        Ok(picked)
    }
}

impl Network {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        Self::with(&config.paths, config.pod_subnets.clone(), config.load_module.clone())
    }

    /// `own` are the addresses for the node's own pods.
    fn with(paths: &Paths, own: Vec<Subnet>, load_module: Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        let state = State {
            ranges: ranges::Ranges::load(&paths.var, own),
            leases: HashMap::new(),
            last: Vec::new(),
            ports: ports::Ports::default(),
        };
        let inner = Inner {
            cni: cni::Cni::new(paths),
            load_module,
            state: Mutex::new(state),
            kernel: Mutex::default(),
            bridge: tokio::sync::Mutex::default(),
            firewall: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Picks free addresses for a pod of the node's own, one per subnet. They are its own until [`Network::release`].
    pub(crate) fn lease(&self, key: &str) -> Result<Vec<IpAddr>, NetworkError> {
        self.prepare();
        let mut state = self.state();
        let subnets = state.ranges.own();
        state.lease(key, &subnets)
    }

    /// The same for a sandbox of the CRI; none when plugins give it addresses.
    pub(crate) fn lease_for_cri(&self, key: &str) -> Result<Vec<IpAddr>, NetworkError> {
        if self.inner.cni.is_wanted() {
            return Ok(Vec::new());
        }
        self.prepare();
        let mut state = self.state();
        let subnets = state.ranges.for_kubelet();
        state.lease(key, &subnets)
    }

    /// Makes the bridge while the first sandbox is still being made: its modules take a while.
    fn prepare(&self) {
        let made = self.inner.bridge.try_lock().map_or(true, |bridge| bridge.is_some());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !made {
            let network = self.clone();
            // What goes wrong is said to whoever needs it.
            runtime.spawn(async move { drop(network.bridge().await) });
        }
    }

    /// Whether a sandbox of the CRI could be connected now.
    pub(crate) async fn ready(&self) -> Result<(), NotReady> {
        if self.inner.cni.is_wanted() {
            return self.inner.cni.ready().await.map_err(NotReady::Cni);
        }
        let nothing = self.state().ranges.for_kubelet().is_empty();
        if nothing { Err(NotReady::NoSubnet) } else { Ok(()) }
    }

    /// Sandboxes of the CRI get their addresses from these subnets from now on, at most one for each IP version.
    pub(crate) async fn set_pod_cidrs(&self, subnets: Vec<Subnet>) -> Result<(), NetworkError> {
        let mut bridge = self.inner.bridge.lock().await;
        if self.state().ranges.name(subnets).map_err(NetworkError::Ranges)? {
            // It needs an address in the new range before the next sandbox.
            *bridge = None;
        }
        Ok(())
    }

    /// Takes addresses and ports that a record says a sandbox of this boot has. Its connections are open, so nothing of it
    /// is refused. [`Network::resume`] comes after the last.
    pub(crate) fn adopt(&self, key: &str, addresses: &[IpAddr], mappings: &[PortMapping]) {
        let mut state = self.state();
        state.leases.insert(key.to_owned(), addresses.to_vec());
        let ours = !(self.inner.cni.is_attached(key) && self.inner.cni.leads_ports());
        match ports::resolve(addresses, mappings) {
            Ok(ports) if ports.is_empty() => {}
            Ok(ports) => state.ports.adopt(key, key, ports, ours),
            Err(error) => tracing::warn!(key, error = chain(&error), "adopt the ports of a pod"),
        }
    }

    /// Takes over where a former agent stopped, once every sandbox is adopted. What plugins did for others is undone
    /// meanwhile.
    pub(crate) async fn resume(&self) {
        self.inner.cni.make_folders();
        let known: HashSet<String> = self.state().leases.keys().cloned().collect();
        let unknown = self.inner.cni.attached().into_iter().filter(|key| !known.contains(key));
        let (network, unknown) = (self.clone(), unknown.collect::<Vec<_>>());
        tokio::spawn(async move { network.inner.cni.take_over(unknown).await });
        if known.is_empty() {
            return;
        }
        let mut in_sync = self.inner.firewall.lock().await;
        match self.replace_rules().await {
            Ok(()) => *in_sync = true,
            // The next change tries again; what is there until then is from the former agent.
            Err(error) => tracing::error!(error = chain(&error), "take over the pod network"),
        }
    }

    /// Gives the addresses of a sandbox back.
    pub(crate) fn release(&self, key: &str) {
        self.state().leases.remove(key);
    }

    /// Connects a sandbox's namespace to the bridge, or lets plugins connect it when it has no addresses, and leads its ports
    /// of the node to it. Returns the addresses it has.
    pub(crate) async fn attach(
        &self,
        key: &str,
        namespace: &Path,
        addresses: &[IpAddr],
        config: &SandboxConfig,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        let (addresses, ours) = if addresses.is_empty() {
            let ranges = self.state().ranges.named();
            let about = cni::About::sandbox(key, config, &ranges);
            let addresses = self.inner.cni.add(key, namespace, about).await?;
            self.state().leases.insert(key.to_owned(), addresses.clone());
            (addresses, !self.inner.cni.leads_ports())
        } else {
            self.connect(key, namespace, addresses).await?;
            (addresses.to_vec(), true)
        };
        let ports = ports::resolve(&addresses, &config.ports)?;
        let name = format!("{}/{}", config.namespace, config.name);
        self.open_ports(key, &name, &ports, ours).await?;
        Ok(addresses)
    }

    /// Takes a sandbox's link and ports away; none is fine.
    pub(crate) async fn detach(&self, key: &str) -> Result<(), NetworkError> {
        self.close_ports(key).await?;
        if self.inner.cni.delete(key).await? {
            return Ok(());
        }
        self.kernel()?.remove(&veth_name(key)).await.inspect_err(|error| self.reconnect(error))
    }

    async fn connect(
        &self,
        key: &str,
        namespace: &Path,
        addresses: &[IpAddr],
    ) -> Result<(), NetworkError> {
        let bridge = self.bridge().await?;
        let kernel = self.kernel()?;
        let ranges: Vec<(IpAddr, Subnet)> = {
            let state = self.state();
            addresses.iter().filter_map(|a| Some((*a, state.ranges.of(*a)?))).collect()
        };
        let mac = lease::mac(addresses);
        let linked = kernel.veth(&veth_name(key), bridge, namespace, mac).await;
        linked.inspect_err(|error| self.reconnect(error))?;
        let own: Vec<(IpAddr, u8)> = ranges.iter().map(|(a, subnet)| (*a, subnet.prefix)).collect();
        let gateways: Vec<IpAddr> =
            ranges.iter().filter_map(|(_, subnet)| lease::gateway(*subnet)).collect();
        kernel::configure_inside(namespace, &own, &gateways).await
    }

    /// The bridge with the node's addresses, and the way out behind it.
    async fn bridge(&self) -> Result<u32, NetworkError> {
        let mut bridge = self.inner.bridge.lock().await;
        if let Some(index) = *bridge {
            return Ok(index);
        }
        self.load_modules(&["bridge", "veth"]).await?;
        let subnets = self.state().ranges.all();
        let index = self.kernel()?.bridge(&subnets).await;
        let index = index.inspect_err(|error| self.reconnect(error))?;
        let mut in_sync = self.inner.firewall.lock().await;
        self.replace_rules().await?;
        *in_sync = true;
        *bridge = Some(index);
        Ok(index)
    }

    fn kernel(&self) -> Result<kernel::Kernel, NetworkError> {
        let mut kept = self.inner.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = &*kept {
            return Ok(kernel.clone());
        }
        let kernel = kernel::Kernel::connect()?;
        *kept = Some(kernel.clone());
        Ok(kernel)
    }

    /// After a failure everything is looked at anew: the connection, and whether the bridge is there.
    fn reconnect(&self, _: &NetworkError) {
        *self.inner.kernel.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Ok(mut bridge) = self.inner.bridge.try_lock() {
            *bridge = None;
        }
    }

    async fn load_modules(&self, names: &'static [&'static str]) -> Result<(), NetworkError> {
        let load = self.inner.load_module.clone();
        // A module that cannot be loaded shows in what needs it, with a better message.
        let loading = tokio::task::spawn_blocking(move || names.iter().for_each(|name| load(name)));
        loading.await.map_err(|_| NetworkError::Ending)
    }

    /// Claims ports, then leads them to the sandbox. A claim that cannot be led is given back by [`Network::detach`].
    async fn open_ports(
        &self,
        key: &str,
        name: &str,
        ports: &[ports::Port],
        ours: bool,
    ) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        let mut in_sync = self.inner.firewall.lock().await;
        {
            let mut state = self.state();
            // Of an attempt that nobody took back: its rules are still there.
            *in_sync &= state.ports.release(key).is_empty();
            state.ports.claim(key, name, ports, ours)?;
        }
        if !ours {
            return Ok(());
        }
        if *in_sync {
            let ports = ports.to_vec();
            if self.change_rules(move || firewall::add(&ports)).await.is_ok() {
                return Ok(());
            }
            // Somebody changed the table, or an earlier change of ours was cut off: say everything again.
            *in_sync = false;
        }
        self.replace_rules().await?;
        *in_sync = true;
        Ok(())
    }

    async fn close_ports(&self, key: &str) -> Result<(), NetworkError> {
        let mut in_sync = self.inner.firewall.lock().await;
        // Given back only after the rules are gone: nobody else may have them meanwhile, and none asks without this lock.
        let ports = self.state().ports.release(key);
        if ports.is_empty() {
            return Ok(());
        }
        if *in_sync && self.change_rules(move || firewall::remove(&ports)).await.is_ok() {
            return Ok(());
        }
        *in_sync = false;
        self.replace_rules().await?;
        *in_sync = true;
        Ok(())
    }

    /// Makes the table as the state says it should be. The caller holds the lock of the firewall.
    async fn replace_rules(&self) -> Result<(), NetworkError> {
        self.load_modules(firewall::MODULES).await?;
        kernel::lead_loopback()?;
        let (subnets, ports) = {
            let state = self.state();
            (state.ranges.all(), state.ports.all())
        };
        self.change_rules(move || firewall::replace(&subnets, &ports)).await
    }

    /// Another program may be changing its tables meanwhile, and the kernel lets us wait.
    async fn change_rules(
        &self,
        change: impl FnOnce() -> Result<(), nft::NftError> + Send + 'static,
    ) -> Result<(), NetworkError> {
        let changed = tokio::task::spawn_blocking(change).await;
        Ok(changed.map_err(|_| NetworkError::Ending)??)
    }
}

/// Name of the node's end of a sandbox's link. Link names have at most 15 bytes, keys are longer.
fn veth_name(key: &str) -> String {
    let digest = Sha256::digest(key);
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("pod{hex}")
}

#[cfg(test)]
mod tests;
