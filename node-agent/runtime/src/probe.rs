//! Probes: asking a running container whether it has started, lives, or is ready, and judging the answers.
//!
//! [`Judge`] is pure. [`ask`] makes one question and never takes longer than it is given; it changes nothing but what the
//! container itself does when it is asked.

mod grpc;
mod http;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ingot_machine_config::v1::pod::{
    Container, GrpcAction, HttpGetAction, Probe, Scheme, TcpSocketAction,
};
use tokio::net::TcpStream;

/// Longest message of a failed question that is told, in bytes.
const MESSAGE_MAX: usize = 1024;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whether the container has started.
    Startup,
    /// Whether it lives.
    Liveness,
    /// Whether it is ready.
    Readiness,
}

impl Kind {
    /// As it is called in events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The probe of this kind that a container has.
    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// Counts answers: a probe passes or fails after so many of a kind in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judge {
    /// Answers in a row that it takes: to pass, to fail.
    thresholds: (u32, u32),
    /// The kind of the last answers, and how many of it there were.
    row: Option<(bool, u32)>,
    /// What it has come to.
    verdict: Option<bool>,
}

impl Judge {
    /// Before the first question: not started, alive, not ready.
    pub(crate) fn new(kind: Kind, probe: &Probe) -> Self {
        let verdict = match kind {
            Kind::Startup => None,
            Kind::Liveness => Some(true),
            Kind::Readiness => Some(false),
        };
        Self { thresholds: (probe.success_threshold, probe.failure_threshold), row: None, verdict }
    }

    /// A readiness probe of a container that was ready before the agent was started anew.
    pub(crate) fn resume(mut self, passed: bool) -> Self {
        if passed {
            self.verdict = Some(true);
        }
        self
    }

    /// How many answers of one kind the last ones were.
    pub(crate) fn row_length(&self) -> u32 {
        self.row.map_or(0, |(_, count)| count)
    }

    /// Takes an answer; `Some` when the verdict changes.
    pub(crate) fn take(&mut self, passed: bool) -> Option<bool> {
        let count = match self.row {
            Some((kind, count)) if kind == passed => count.saturating_add(1),
            _ => 1,
        };
        self.row = Some((passed, count));
        let needed = if passed { self.thresholds.0 } else { self.thresholds.1 };
        if count < needed || self.verdict == Some(passed) {
            return None;
        }
        self.verdict = Some(passed);
        self.verdict
    }
}

/// A question that needs nothing but the network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Question {
    /// An HTTP request.
    Http(HttpGetAction, u16),
    /// A connection.
    Tcp(TcpSocketAction, u16),
    /// A call of gRPC's health service.
    Grpc(GrpcAction),
}

impl Question {
    /// The question of a probe, with the number of its port. `None`: it is a command.
    pub(crate) fn of(probe: &Probe, container: &Container) -> Option<Self> {
        Self::http(probe.http_get.as_ref(), container)
            .or_else(|| Self::tcp(probe.tcp_socket.as_ref(), container))
            .or_else(|| probe.grpc.clone().map(Self::Grpc))
    }

    /// An HTTP request.
    pub(crate) fn http(action: Option<&HttpGetAction>, container: &Container) -> Option<Self> {
        let action = action?;
        Some(Self::Http(action.clone(), container.port_number(&action.port)?))
    }

    /// A connection.
    pub(crate) fn tcp(action: Option<&TcpSocketAction>, container: &Container) -> Option<Self> {
        let action = action?;
        Some(Self::Tcp(action.clone(), container.port_number(&action.port)?))
    }
}

/// Asks a container at `address` over the network, as the kubelet does it from the node. `Err` says why the answer is no.
pub(crate) async fn ask(
    question: &Question,
    address: IpAddr,
    timeout: Duration,
) -> Result<(), String> {
    let answer = async {
        match question {
            Question::Tcp(action, port) => {
                connect(action.host.as_deref(), address, *port).await.map(drop)
            }
            Question::Http(action, port) => {
                let host = action.host.as_deref();
                let stream = connect(host, address, *port).await?;
                let name = host.map_or_else(|| bracketed(address), str::to_owned);
                let name = format!("{name}:{port}");
                match action.scheme {
                    Scheme::Http => http::get(stream, &name, action).await,
                    Scheme::Https => http::get(tls::client(stream).await?, &name, action).await,
                }
            }
            Question::Grpc(action) => {
                let stream = connect(None, address, action.port).await?;
                grpc::check(stream, action.service.as_deref().unwrap_or_default()).await
            }
        }
    };
    let answer = tokio::time::timeout(timeout, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")));
    answer.map_err(|message| shortened(&message))
}

async fn connect(host: Option<&str>, address: IpAddr, port: u16) -> Result<TcpStream, String> {
    // Names are not resolved: a probe that hangs on a name server says nothing about the container.
    let address = match host {
        None => address,
        Some("localhost") => IpAddr::from([127, 0, 0, 1]),
        Some(host) => host.parse().map_err(|_| format!("host {host:?} is not an address"))?,
    };
    let address = SocketAddr::new(address, port);
    TcpStream::connect(address).await.map_err(|error| format!("connect to {address}: {error}"))
}

fn bracketed(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

/// One line of bounded length.
pub(crate) fn shortened(message: &str) -> String {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = line.len().min(MESSAGE_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
