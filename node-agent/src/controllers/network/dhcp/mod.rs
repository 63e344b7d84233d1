//! DHCPv4 clients, one task for each link that wants one. A socket is open only while an answer is expected, so the node
//! listens on nothing in between. Leases are kept on tmpfs, so that a new agent goes on with them.

mod machine;

pub(crate) use machine::Lease;

use crate::report;
use dhcproto::v4::Message;
use dhcproto::{Decodable as _, Decoder, Encodable as _, Encoder};
use ingot_linux::clock;
use machine::{Action, Machine};
use ring::rand::{SecureRandom as _, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where leases are kept while the machine runs.
const FOLDER: &str = "/run/ingot/dhcp";
/// The client's port.
const CLIENT_PORT: u16 = 68;
/// The server's port.
const SERVER_PORT: u16 = 67;
/// Largest message read.
const MESSAGE_MAX: usize = 1500;
/// Pause after a socket could not be opened, as on a link that is just going down.
const SOCKET_RETRY: Duration = Duration::from_secs(2);

/// Leases by link name.
pub(crate) type Leases = BTreeMap<String, Lease>;

/// A link that wants a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientSpec {
    pub(crate) link: String,
    pub(crate) mac: [u8; 6],
}

/// What may change while a client runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Situation {
    /// Whether the link has a carrier.
    pub(crate) carrier: bool,
    /// Name to tell the server, from the next message on.
    pub(crate) hostname: Option<String>,
}

/// All clients.
pub(crate) struct Clients {
    running: BTreeMap<String, (ClientSpec, watch::Sender<Situation>, JoinHandle<()>)>,
    leases: Arc<watch::Sender<Leases>>,
}

impl Clients {
    /// None.
    pub(crate) fn new() -> Self {
        Self { running: BTreeMap::new(), leases: Arc::new(watch::Sender::new(Leases::new())) }
    }

    /// The leases now.
    pub(crate) fn leases(&self) -> Leases {
        self.leases.borrow().clone()
    }

    /// Wakes its holder when they change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Leases> {
        self.leases.subscribe()
    }

    /// Whether exactly these clients run.
    pub(crate) fn are(&self, wanted: &[(ClientSpec, Situation)]) -> bool {
        self.running.len() == wanted.len()
            && wanted.iter().all(|(spec, situation)| {
                let running = self.running.get(&spec.link);
                running.is_some_and(|(have, seen, _)| have == spec && *seen.borrow() == *situation)
            })
    }

    /// Starts and stops clients so that exactly these run, and tells them their situation.
    pub(crate) fn set(&mut self, wanted: &[(ClientSpec, Situation)]) {
        let leases = &self.leases;
        self.running.retain(|name, (spec, _, task)| {
            let keep = wanted.iter().any(|(want, _)| want == spec);
            if !keep {
                task.abort();
                // A lease that stays on tmpfs would come back with the next agent.
                let _ = fs::remove_file(file(name));
                leases.send_if_modified(|leases| leases.remove(name).is_some());
            }
            keep
        });
        for (spec, situation) in wanted {
            if let Some((_, seen, _)) = self.running.get(&spec.link) {
                seen.send_replace(situation.clone());
                continue;
            }
            let (sender, receiver) = watch::channel(situation.clone());
            let task = tokio::spawn(run(spec.clone(), receiver, Arc::clone(&self.leases)));
            self.running.insert(spec.link.clone(), (spec.clone(), sender, task));
        }
    }
}

async fn run(
    spec: ClientSpec,
    mut situation: watch::Receiver<Situation>,
    leases: Arc<watch::Sender<Leases>>,
) {
    let mut machine = Machine::new(spec.mac, load(&spec.link), clock::since_boot());
    publish(&spec.link, machine.lease(), &leases);
    loop {
        match situation.wait_for(|situation| situation.carrier).await {
            Ok(situation) => machine.set_hostname(situation.hostname.clone()),
            Err(_) => return,
        }
        // While bound there is only the timer; otherwise an exchange runs on a socket of its own.
        let result = if machine.is_listening() {
            exchange(&spec, &mut machine, &mut situation, &leases).await
        } else {
            rest(&mut machine, &mut situation).await;
            Ok(())
        };
        if let Err(error) = result {
            tracing::debug!("dhcp on {}, retrying: {error}", spec.link);
            tokio::time::sleep(SOCKET_RETRY).await;
        }
    }
}

/// Waits until the lease is to be renewed, or the carrier goes and comes back.
async fn rest(machine: &mut Machine, situation: &mut watch::Receiver<Situation>) {
    let gone = situation.wait_for(|situation| !situation.carrier);
    // Both arms are cancel safe.
    let lost = tokio::select! {
        () = sleep_until(machine.wake()) => false,
        gone = gone => gone.is_ok(),
    };
    if lost && situation.wait_for(|situation| situation.carrier).await.is_ok() {
        machine.carrier_returned(clock::since_boot());
    } else {
        // Only changes the stage: messages go out on the socket that `exchange` opens next.
        machine.due(clock::since_boot());
    }
}

/// Asks until there is a lease or the carrier goes.
async fn exchange(
    spec: &ClientSpec,
    machine: &mut Machine,
    situation: &mut watch::Receiver<Situation>,
    leases: &watch::Sender<Leases>,
) -> io::Result<()> {
    let socket = open(&spec.link)?;
    let mut buffer = [0; MESSAGE_MAX];
    while machine.is_listening() && situation.borrow_and_update().carrier {
        // All arms are cancel safe: a datagram is taken whole or not at all.
        let actions = tokio::select! {
            () = sleep_until(machine.wake()) => machine.timer(clock::since_boot(), random()),
            received = socket.recv_from(&mut buffer) => {
                let (length, _) = received?;
                let bytes = buffer.get(..length).unwrap_or_default();
                match Message::decode(&mut Decoder::new(bytes)) {
                    Ok(message) => machine.received(&message, clock::since_boot(), random()),
                    Err(_) => continue,
                }
            }
            _ = situation.changed() => continue,
        };
        for action in actions {
            match action {
                Action::Send(message, to) => send(&socket, &message, to).await?,
                Action::Use(lease) => {
                    tracing::info!("dhcp on {}: {}/{}", spec.link, lease.address, lease.prefix);
                    store(&spec.link, &lease);
                    publish(&spec.link, Some(&lease), leases);
                }
                Action::Drop => {
                    tracing::warn!("dhcp on {}: the lease is lost, asking again", spec.link);
                    let _ = fs::remove_file(file(&spec.link));
                    publish(&spec.link, None, leases);
                }
            }
        }
    }
    Ok(())
}

async fn send(socket: &UdpSocket, message: &Message, to: Ipv4Addr) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(576);
    message.encode(&mut Encoder::new(&mut bytes)).map_err(io::Error::other)?;
    socket.send_to(&bytes, (to, SERVER_PORT)).await.map(drop)
}

fn open(link: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // Bound to its link before anything else: several clients share the port, each on its own link.
    socket.bind_device(Some(link.as_bytes()))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;
    UdpSocket::from_std(socket.into())
}

async fn sleep_until(at: Duration) {
    tokio::time::sleep(at.saturating_sub(clock::since_boot())).await;
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without random bytes a constant is as good: it only tells our transactions apart.
    let _ = SystemRandom::new().fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

fn publish(link: &str, lease: Option<&Lease>, leases: &watch::Sender<Leases>) {
    leases.send_if_modified(|leases| match lease {
        Some(lease) => leases.insert(link.to_owned(), lease.clone()).as_ref() != Some(lease),
        None => leases.remove(link).is_some(),
    });
}

/// Link names are the kernel's: no slash, not `.` or `..`.
fn file(link: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("{link}.json"))
}

fn load(link: &str) -> Option<Lease> {
    serde_json::from_slice(&fs::read(file(link)).ok()?).ok()
}

/// Losing this file costs one exchange with the server, so it is written without ceremony, but never half.
fn store(link: &str, lease: &Lease) {
    let write = || -> io::Result<()> {
        fs::create_dir_all(FOLDER)?;
        let temporary = file(link).with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec(lease).map_err(io::Error::other)?)?;
        fs::rename(temporary, file(link))
    };
    if let Err(error) = write() {
        tracing::debug!("lease of {link} not kept, ignoring: {}", report::chain(&error));
    }
}
