//! DHCP clients of both versions of IP, one task for each link and version that wants one. A socket is open only while an
//! answer is expected, so the node listens on nothing in between. Leases are kept on tmpfs, so that a new agent goes on with
//! them. What is said to whom is decided by the machines in [`v4`] and [`v6`].

mod course;
pub(crate) mod v4;
pub(crate) mod v6;

use self::course::Course;
use crate::report;
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use ingot_linux::clock;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::{Domain, Protocol as Transport, Socket, Type};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Largest message read.
const MESSAGE_MAX: usize = 1500;
/// Pause after a socket could not be opened or used, as on a link that is just going down, or has no address of its own yet.
const SOCKET_RETRY: Duration = Duration::from_secs(2);

/// Version of IP whose addresses a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V4,
    V6,
}

/// Leases by link name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    pub(crate) v4: BTreeMap<String, v4::Lease>,
    pub(crate) v6: BTreeMap<String, v6::Lease>,
}

/// A link that wants a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientSpec {
    pub(crate) link: String,
    pub(crate) mac: [u8; 6],
    pub(crate) version: Version,
}

/// What may change while a client runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Situation {
    /// Whether the link has a carrier.
    pub(crate) carrier: bool,
    /// Name to tell the server, from the next message on.
    pub(crate) hostname: Option<String>,
}

/// What a client's machine wants done: with messages `M` and leases `L`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action<M, L> {
    /// Send to this address: everybody, or a server.
    Send(Box<M>, IpAddr),
    /// Use this lease.
    Use(Box<L>),
    /// Stop using the lease.
    Drop,
}

/// A version's client as a pure machine. `random` is a fresh random number wherever one is asked for; times are since boot.
trait Protocol: Sized {
    type Message: Encodable + Decodable;
    type Lease: course::Term + Clone + PartialEq + Serialize + DeserializeOwned;
    type Offer;
    /// What it is called in logs.
    const NAME: &'static str;
    /// Where leases are kept while the machine runs.
    const FOLDER: &'static str;
    const CLIENT: SocketAddr;
    const SERVER_PORT: u16;

    /// Begins, with a lease of an earlier agent if there is one that has not ended.
    fn new(mac: [u8; 6], old: Option<Self::Lease>, now: Duration) -> Self;
    /// Its part of all leases.
    fn leases(all: &mut Leases) -> &mut BTreeMap<String, Self::Lease>;
    /// The leased address, for the log.
    fn address(lease: &Self::Lease) -> IpAddr;
    /// Name to tell the server, from the next message on.
    fn set_hostname(&mut self, hostname: Option<String>);
    /// Where it is.
    fn course(&self) -> &Course<Self::Offer, Self::Lease>;
    /// The same, to be changed.
    fn course_mut(&mut self) -> &mut Course<Self::Offer, Self::Lease>;
    /// Time has come.
    fn timer(&mut self, now: Duration, random: u32) -> Vec<Action<Self::Message, Self::Lease>>;
    /// A message came.
    fn received(
        &mut self,
        message: &Self::Message,
        now: Duration,
        random: u32,
    ) -> Vec<Action<Self::Message, Self::Lease>>;
}

/// A client that runs.
struct Running {
    spec: ClientSpec,
    situation: watch::Sender<Situation>,
    task: JoinHandle<()>,
}

/// All clients.
pub(crate) struct Clients {
    running: BTreeMap<(String, Version), Running>,
    leases: Arc<watch::Sender<Leases>>,
}

impl Clients {
    /// None.
    pub(crate) fn new() -> Self {
        Self { running: BTreeMap::new(), leases: Arc::new(watch::Sender::new(Leases::default())) }
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
                let running = self.running.get(&spec.key());
                running.is_some_and(|it| it.spec == *spec && *it.situation.borrow() == *situation)
            })
    }

    /// Starts and stops clients so that exactly these run, and tells them their situation.
    pub(crate) fn set(&mut self, wanted: &[(ClientSpec, Situation)]) {
        let leases = &self.leases;
        self.running.retain(|(name, version), running| {
            let keep = wanted.iter().any(|(want, _)| *want == running.spec);
            if !keep {
                running.task.abort();
                match version {
                    Version::V4 => forget::<v4::Machine>(name, leases),
                    Version::V6 => forget::<v6::Machine>(name, leases),
                }
            }
            keep
        });
        for (spec, situation) in wanted {
            if let Some(running) = self.running.get(&spec.key()) {
                running.situation.send_replace(situation.clone());
                continue;
            }
            let (sender, receiver) = watch::channel(situation.clone());
            let (of, leases) = (spec.clone(), Arc::clone(&self.leases));
            let task = match spec.version {
                Version::V4 => tokio::spawn(run::<v4::Machine>(of, receiver, leases)),
                Version::V6 => tokio::spawn(run::<v6::Machine>(of, receiver, leases)),
            };
            let running = Running { spec: spec.clone(), situation: sender, task };
            self.running.insert(spec.key(), running);
        }
    }
}

impl ClientSpec {
    fn key(&self) -> (String, Version) {
        (self.link.clone(), self.version)
    }
}

async fn run<P: Protocol>(
    spec: ClientSpec,
    mut situation: watch::Receiver<Situation>,
    leases: Arc<watch::Sender<Leases>>,
) {
    let mut machine = P::new(spec.mac, load::<P>(&spec.link), clock::since_boot());
    publish::<P>(&spec.link, machine.course().lease.as_ref(), &leases);
    loop {
        match situation.wait_for(|situation| situation.carrier).await {
            Ok(situation) => machine.set_hostname(situation.hostname.clone()),
            Err(_) => return,
        }
        // While bound there is only the timer; otherwise an exchange runs on a socket of its own.
        let result = if machine.course().is_listening() {
            exchange(&spec, &mut machine, &mut situation, &leases).await
        } else {
            rest(&mut machine, &mut situation).await;
            Ok(())
        };
        if let Err(error) = result {
            tracing::debug!("{} on {}, retrying: {error}", P::NAME, spec.link);
            tokio::time::sleep(SOCKET_RETRY).await;
        }
    }
}

/// Waits until the lease is to be renewed, or the carrier goes and comes back.
async fn rest<P: Protocol>(machine: &mut P, situation: &mut watch::Receiver<Situation>) {
    let gone = situation.wait_for(|situation| !situation.carrier);
    // Both arms are cancel safe.
    let lost = tokio::select! {
        () = sleep_until(machine.course().wake) => false,
        gone = gone => gone.is_ok(),
    };
    if lost && situation.wait_for(|situation| situation.carrier).await.is_ok() {
        machine.course_mut().carrier_returned(clock::since_boot());
    } else {
        // Only changes the stage: messages go out on the socket that `exchange` opens next.
        machine.course_mut().due(clock::since_boot());
    }
}

/// Asks until there is a lease or the carrier goes.
async fn exchange<P: Protocol>(
    spec: &ClientSpec,
    machine: &mut P,
    situation: &mut watch::Receiver<Situation>,
    leases: &watch::Sender<Leases>,
) -> io::Result<()> {
    let socket = open::<P>(&spec.link)?;
    let mut buffer = [0; MESSAGE_MAX];
    while machine.course().is_listening() && situation.borrow_and_update().carrier {
        // All arms are cancel safe: a datagram is taken whole or not at all.
        let actions = tokio::select! {
            () = sleep_until(machine.course().wake) => machine.timer(clock::since_boot(), random()),
            received = socket.recv_from(&mut buffer) => {
                let (length, _) = received?;
                let bytes = buffer.get(..length).unwrap_or_default();
                match P::Message::decode(&mut Decoder::new(bytes)) {
                    Ok(message) => machine.received(&message, clock::since_boot(), random()),
                    Err(_) => continue,
                }
            }
            _ = situation.changed() => continue,
        };
        for action in actions {
            match action {
                Action::Send(message, to) => {
                    send(&socket, &*message, SocketAddr::new(to, P::SERVER_PORT)).await?;
                }
                Action::Use(lease) => {
                    tracing::info!("{} on {}: {}", P::NAME, spec.link, P::address(&lease));
                    store::<P>(&spec.link, &lease);
                    publish::<P>(&spec.link, Some(&lease), leases);
                }
                Action::Drop => {
                    tracing::warn!("{} on {}: the lease is lost, asking again", P::NAME, spec.link);
                    forget::<P>(&spec.link, leases);
                }
            }
        }
    }
    Ok(())
}

async fn send(socket: &UdpSocket, message: &impl Encodable, to: SocketAddr) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(576);
    message.encode(&mut Encoder::new(&mut bytes)).map_err(io::Error::other)?;
    socket.send_to(&bytes, to).await.map(drop)
}

fn open<P: Protocol>(link: &str) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(P::CLIENT), kind, Some(Transport::UDP))?;
    // Bound to its link before anything else: several clients share the port, each on its own link.
    socket.bind_device(Some(link.as_bytes()))?;
    socket.set_reuse_address(true)?;
    match P::CLIENT {
        SocketAddr::V4(_) => socket.set_broadcast(true)?,
        SocketAddr::V6(_) => socket.set_only_v6(true)?,
    }
    socket.bind(&P::CLIENT.into())?;
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

fn publish<P: Protocol>(link: &str, lease: Option<&P::Lease>, leases: &watch::Sender<Leases>) {
    leases.send_if_modified(|all| match lease {
        Some(lease) => {
            P::leases(all).insert(link.to_owned(), lease.clone()).as_ref() != Some(lease)
        }
        None => P::leases(all).remove(link).is_some(),
    });
}

/// Also on tmpfs: what stays there would come back with the next agent.
fn forget<P: Protocol>(link: &str, leases: &watch::Sender<Leases>) {
    let _ = fs::remove_file(file::<P>(link));
    publish::<P>(link, None, leases);
}

/// Link names are the kernel's: no slash, not `.` or `..`.
fn file<P: Protocol>(link: &str) -> PathBuf {
    PathBuf::from(P::FOLDER).join(format!("{link}.json"))
}

fn load<P: Protocol>(link: &str) -> Option<P::Lease> {
    serde_json::from_slice(&fs::read(file::<P>(link)).ok()?).ok()
}

/// Losing this file costs one exchange with the server, so it is written without ceremony, but never half.
fn store<P: Protocol>(link: &str, lease: &P::Lease) {
    let write = || -> io::Result<()> {
        fs::create_dir_all(P::FOLDER)?;
        let path = file::<P>(link);
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec(lease).map_err(io::Error::other)?)?;
        fs::rename(temporary, path)
    };
    if let Err(error) = write() {
        tracing::debug!("lease of {link} not kept, ignoring: {}", report::chain(&error));
    }
}

/// Pause before the next message after `tries`: from `min` doubled up to `max`, and up to a quarter more, so that many
/// machines started at once do not stay in step.
fn pause(tries: u32, (min, max): (Duration, Duration), random: u32) -> Duration {
    let pause = min.saturating_mul(1 << (tries - 1).min(10)).min(max);
    pause + pause.mul_f64(f64::from(random % 256) / 1024.0)
}

/// A host or domain name, if that is what it is: it goes into files that programs parse.
fn name_of(text: &str) -> Option<String> {
    let name = text.trim_end_matches(['\0', '.']);
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    (!name.is_empty() && name.len() <= 253 && name.chars().all(good)).then(|| name.to_owned())
}
