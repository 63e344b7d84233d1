//! The agent's side of the socket to PID 1: the only code that may ask PID 1 for anything.
//!
//! Each request has an id, a reply and a deadline. Notices go to two places: exits to whoever watches that process,
//! the end of the machine to [`Pid1::stopping`].

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ingot_init_api::{
    End, Exit, FromAgent, FromInit, MESSAGE_LENGTH_MAX, Name, Notice, Refusal, Reply, Request,
    SPEAK_EVERY_SECONDS, Service, WATCHES_MAX,
};
use ingot_linux::packet;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};

/// How long PID 1 may take to answer. It never blocks, so this is far more than it needs on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(10);

/// Requests on their way at most; more wait for a place.
const QUEUE_MAX: usize = 64;

/// Why PID 1 did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Pid1Error {
    /// The descriptor is not a usable socket.
    #[error("take over the socket to PID 1")]
    Socket(#[source] std::io::Error),
    /// A packet could not be sent.
    #[error("send to PID 1")]
    Send(#[source] std::io::Error),
    /// PID 1 did not answer in time.
    #[error("PID 1 did not answer {request} within {} ms", .deadline.as_millis())]
    Deadline {
        /// What was asked.
        request: &'static str,
        /// How long was waited.
        deadline: Duration,
    },
    /// PID 1 refused.
    #[error("PID 1 refused {request}: {refusal:?}")]
    Refused {
        /// What was asked.
        request: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// The answer does not fit the question.
    #[error("PID 1 gave an answer that does not fit {request}")]
    WrongReply {
        /// What was asked.
        request: &'static str,
    },
    /// PID 1 closed the socket.
    #[error("the socket to PID 1 is closed")]
    Closed,
}

/// What PID 1 says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// How often the agent was restarted since boot.
    pub restarts: u32,
    /// CLOCK_BOOTTIME nanoseconds at which PID 1 began.
    pub started_at_ns: u64,
}

/// The machine is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// How.
    pub how: End,
    /// How long the agent has to stop pods.
    pub grace: Duration,
}

/// A connection to PID 1. Cheap to clone.
#[derive(Clone)]
pub struct Pid1 {
    requests: mpsc::Sender<Ask>,
    stopping: watch::Receiver<Option<Stopping>>,
    exits: Arc<Mutex<Exits>>,
}

/// A process that may end: pid and start time.
pub(crate) type Process = (i32, u64);

/// Exits that arrived, and who waits for which.
#[derive(Default)]
struct Exits {
    waiting: HashMap<Process, oneshot::Sender<Exit>>,
    /// Given to a waiter that has not acknowledged it yet. PID 1 repeats such exits (at a watch, at a replay); taking the
    /// repetition for an exit of nobody would acknowledge it before it is on disk.
    delivered: HashSet<Process>,
    /// Arrived before anybody asked; PID 1 keeps at most [`WATCHES_MAX`], and so do we.
    unclaimed: HashMap<Process, Exit>,
}

impl Exits {
    fn arrived(&mut self, exit: Exit) {
        let process = (exit.pid, exit.start_time);
        match self.waiting.remove(&process) {
            Some(waiter) => {
                // A waiter that is gone has given its container up, so nobody is going to acknowledge the exit.
                if waiter.send(exit).is_err() {
                    self.keep(exit);
                } else {
                    self.delivered.insert(process);
                }
            }
            None if self.delivered.contains(&process) => {}
            None => self.keep(exit),
        }
    }

    fn keep(&mut self, exit: Exit) {
        // What does not fit PID 1 tells again.
        if self.unclaimed.len() < WATCHES_MAX {
            self.unclaimed.insert((exit.pid, exit.start_time), exit);
        }
    }
}

/// Lets PID 1 know that this agent still turns: it kills one that says nothing for long.
async fn speak(requests: mpsc::WeakSender<Ask>) {
    loop {
        tokio::time::sleep(Duration::from_secs(SPEAK_EVERY_SECONDS)).await;
        let Some(requests) = requests.upgrade() else { return };
        let (reply, _) = oneshot::channel();
        let ask = Ask { request: Request::ServiceAt { index: 0 }, descriptor: None, reply };
        // A full queue speaks for itself.
        let _ = requests.try_send(ask);
    }
}

struct Ask {
    request: Request,
    descriptor: Option<OwnedFd>,
    reply: oneshot::Sender<(Reply, Option<OwnedFd>)>,
}

impl Pid1 {
    /// Takes over the socket, says hello. Must be called inside a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When the descriptor is no socket or PID 1 does not answer.
    pub async fn connect(socket: OwnedFd) -> Result<(Self, Hello), Pid1Error> {
        packet::set_nonblocking(&socket).map_err(Pid1Error::Socket)?;
        let socket = crate::readiness::register(socket).map_err(Pid1Error::Socket)?;
        let (requests, asks) = mpsc::channel(QUEUE_MAX);
        let (stopping_tx, stopping) = watch::channel(None);
        let exits = Arc::new(Mutex::new(Exits::default()));
        let connection = Connection {
            socket,
            asks,
            pending: HashMap::new(),
            next_id: 1,
            stopping: stopping_tx,
            exits: exits.clone(),
        };
        tokio::spawn(connection.run());
        tokio::spawn(speak(requests.downgrade()));
        let pid1 = Self { requests, stopping, exits };
        match pid1.ask(Request::Hello, "Hello").await? {
            Reply::Hello { restarts, started_at_ns } => {
                Ok((pid1, Hello { restarts, started_at_ns }))
            }
            _ => Err(Pid1Error::WrongReply { request: "Hello" }),
        }
    }

    /// Changes to `Some` when PID 1 ends the machine.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<Option<Stopping>> {
        self.stopping.clone()
    }

    /// Waits for the end of a process: the receiver gets its exit, once. `None` when no such process lives or ended
    /// recently.
    pub(crate) async fn watch(
        &self,
        (pid, start_time): Process,
    ) -> Result<Option<oneshot::Receiver<Exit>>, Pid1Error> {
        let (waiter, receiver) = oneshot::channel();
        {
            let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
            // Listen before asking: the notice may come before the reply.
            exits.waiting.insert((pid, start_time), waiter);
            if let Some(exit) = exits.unclaimed.remove(&(pid, start_time)) {
                exits.arrived(exit);
            }
        }
        match self.ask(Request::Watch { pid, start_time }, "Watch").await {
            Ok(_) => Ok(Some(receiver)),
            Err(Pid1Error::Refused { refusal: Refusal::NotFound, .. }) => {
                let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
                // Not there any more when the exit came in between.
                Ok(exits.waiting.remove(&(pid, start_time)).is_none().then_some(receiver))
            }
            Err(error) => Err(error),
        }
    }

    /// The exit is on disk; PID 1 may forget it.
    pub(crate) async fn acknowledge_exit(
        &self,
        (pid, start_time): Process,
    ) -> Result<(), Pid1Error> {
        let request = Request::AcknowledgeExit { pid, start_time };
        self.ask(request, "AcknowledgeExit").await?;
        let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
        exits.delivered.remove(&(pid, start_time));
        Ok(())
    }

    /// Has PID 1 send again what nobody acknowledged; afterwards every such exit is with its waiter or unclaimed.
    pub(crate) async fn replay_exits(&self) -> Result<(), Pid1Error> {
        self.ask(Request::ReplayExits, "ReplayExits").await.map(drop)
    }

    /// Acknowledges exits that belong to no container we know, so that PID 1's table cannot fill up. Not before every
    /// adopted container is watched.
    pub(crate) async fn acknowledge_unclaimed(&self) -> Result<usize, Pid1Error> {
        let unclaimed: Vec<Process> = {
            let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
            exits.unclaimed.drain().map(|(process, _)| process).collect()
        };
        for process in &unclaimed {
            self.acknowledge_exit(*process).await?;
        }
        Ok(unclaimed.len())
    }

    /// Keeps a descriptor under a name; a name in use is replaced.
    pub(crate) async fn store_fd(&self, name: Name, fd: OwnedFd) -> Result<(), Pid1Error> {
        self.ask_with(Request::StoreFd { name }, Some(fd), "StoreFd").await.map(drop)
    }

    /// The descriptor kept under a name.
    pub(crate) async fn get_fd(&self, name: Name) -> Result<Option<OwnedFd>, Pid1Error> {
        match self.ask_with(Request::GetFd { name }, None, "GetFd").await {
            Ok((Reply::Fd, Some(fd))) => Ok(Some(fd)),
            Ok(_) => Err(Pid1Error::WrongReply { request: "GetFd" }),
            Err(Pid1Error::Refused { refusal: Refusal::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets the descriptor kept under a name.
    pub(crate) async fn drop_fd(&self, name: Name) -> Result<(), Pid1Error> {
        self.ask(Request::DropFd { name }, "DropFd").await.map(drop)
    }

    /// Every name in the store.
    pub(crate) async fn stored_names(&self) -> Result<Vec<Name>, Pid1Error> {
        let mut names = Vec::new();
        for index in 0..u32::MAX {
            match self.ask(Request::NameAt { index }, "NameAt").await {
                Ok(Reply::StoredName { name }) => names.push(name),
                Ok(_) => return Err(Pid1Error::WrongReply { request: "NameAt" }),
                Err(Pid1Error::Refused { refusal: Refusal::NotFound, .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }

    /// The services PID 1 keeps.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn services(&self) -> Result<Vec<Service>, Pid1Error> {
        let mut services = Vec::new();
        for index in 0..u32::MAX {
            match self.ask(Request::ServiceAt { index }, "ServiceAt").await {
                Ok(Reply::Service(service)) => services.push(service),
                Ok(_) => return Err(Pid1Error::WrongReply { request: "ServiceAt" }),
                Err(Pid1Error::Refused { refusal: Refusal::NotFound, .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(services)
    }

    /// Starts a stopped service.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn start_service(&self, name: Name) -> Result<(), Pid1Error> {
        self.ask(Request::StartService { name }, "StartService").await.map(drop)
    }

    /// Stops a service and keeps it stopped.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn stop_service(&self, name: Name) -> Result<(), Pid1Error> {
        self.ask(Request::StopService { name }, "StopService").await.map(drop)
    }

    /// Stops and starts a service; with `kill` by SIGKILL at once.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn restart_service(&self, name: Name, kill: bool) -> Result<(), Pid1Error> {
        self.ask(Request::RestartService { name, kill }, "RestartService").await.map(drop)
    }

    /// Begins the ordered end of the machine; [`Pid1::stopping`] then changes.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn end_machine(&self, how: End, grace: Duration) -> Result<(), Pid1Error> {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.ask(Request::EndMachine { how, grace_ms }, "EndMachine").await.map(drop)
    }

    /// Everything of ours is stopped.
    ///
    /// # Errors
    /// When PID 1 refuses or does not answer.
    pub async fn ready_to_end(&self) -> Result<(), Pid1Error> {
        self.ask(Request::ReadyToEnd, "ReadyToEnd").await.map(drop)
    }

    async fn ask(&self, request: Request, name: &'static str) -> Result<Reply, Pid1Error> {
        self.ask_with(request, None, name).await.map(|(reply, _)| reply)
    }

    async fn ask_with(
        &self,
        request: Request,
        descriptor: Option<OwnedFd>,
        name: &'static str,
    ) -> Result<(Reply, Option<OwnedFd>), Pid1Error> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            let ask = Ask { request, descriptor, reply };
            self.requests.send(ask).await.map_err(|_| Pid1Error::Closed)?;
            answer.await.map_err(|_| Pid1Error::Closed)
        };
        match tokio::time::timeout(DEADLINE, exchange).await {
            Err(_) => Err(Pid1Error::Deadline { request: name, deadline: DEADLINE }),
            Ok(Err(error)) => Err(error),
            Ok(Ok((Reply::Refused(refusal), _))) => {
                Err(Pid1Error::Refused { request: name, refusal })
            }
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

/// The task that owns the socket.
struct Connection {
    socket: AsyncFd<OwnedFd>,
    asks: mpsc::Receiver<Ask>,
    pending: HashMap<u32, oneshot::Sender<(Reply, Option<OwnedFd>)>>,
    next_id: u32,
    stopping: watch::Sender<Option<Stopping>>,
    exits: Arc<Mutex<Exits>>,
}

impl Connection {
    async fn run(mut self) {
        let mut unsent: Option<Ask> = None;
        loop {
            tokio::select! {
                // Cancel-safe: an ask is either still in the channel or in `unsent`.
                ask = self.asks.recv(), if unsent.is_none() && self.pending.len() < QUEUE_MAX => match ask {
                    Some(ask) => unsent = Some(ask),
                    None => return,
                },
                // Cancel-safe: readiness only; a packet is taken out in one non-blocking call.
                ready = self.socket.readable() => match ready {
                    Ok(mut guard) => {
                        let mut bytes = [0; MESSAGE_LENGTH_MAX];
                        match guard.try_io(|socket| packet::receive(socket, &mut bytes)) {
                            Ok(Ok(received)) if received.length > 0 => {
                                let bytes = bytes.get(..received.length).unwrap_or_default();
                                self.received(bytes, received.descriptors);
                            }
                            Ok(Ok(_)) => return,
                            Ok(Err(error)) => {
                                tracing::error!(%error, "receive from PID 1");
                                return;
                            }
                            Err(_) => {}
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "wait for PID 1");
                        return;
                    }
                },
                ready = self.socket.writable(), if unsent.is_some() => match ready {
                    Ok(mut guard) => {
                        let Some(ask) = unsent.take() else { continue };
                        let id = self.next_id;
                        let bytes = FromAgent { id, request: ask.request }.encode();
                        let descriptors: Vec<_> = ask.descriptor.iter().map(AsFd::as_fd).collect();
                        match guard.try_io(|socket| packet::send(socket, &bytes, &descriptors)) {
                            Ok(Ok(())) => {
                                self.next_id = self.next_id.wrapping_add(1);
                                // Who waits no longer (deadline) must not fill the table for ever.
                                self.pending.retain(|_, reply| !reply.is_closed());
                                self.pending.insert(id, ask.reply);
                            }
                            Ok(Err(error)) => {
                                tracing::error!(%error, "send to PID 1");
                                return;
                            }
                            Err(_) => unsent = Some(ask),
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "wait for PID 1");
                        return;
                    }
                },
            }
        }
    }

    fn received(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) {
        match FromInit::decode(bytes) {
            Ok(FromInit::Reply { id, reply }) => {
                if let Some(waiter) = self.pending.remove(&id) {
                    // Nobody waits any more after the deadline.
                    let _ = waiter.send((reply, descriptors.into_iter().next()));
                }
            }
            Ok(FromInit::Notice(Notice::Exit(exit))) => {
                self.exits.lock().unwrap_or_else(PoisonError::into_inner).arrived(exit);
            }
            Ok(FromInit::Notice(Notice::Stopping { how, grace_ms })) => {
                let grace = Duration::from_millis(grace_ms.into());
                self.stopping.send_replace(Some(Stopping { how, grace }));
            }
            Err(error) => tracing::error!(?error, "PID 1 sent a packet that is not understood"),
        }
    }
}

#[cfg(test)]
mod tests;
