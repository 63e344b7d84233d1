//! Who may call what: one table, and the layer that asks it before any RPC is decoded. What has no row is refused.

use crate::state::{Events, Severity};
use ingot_pki::{Fingerprint, Role};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

/// A row: an RPC, the smallest role that may call it, and whether anybody may while the node waits for its first config.
pub(crate) struct Rule {
    /// `/package.Service/Method`.
    pub(crate) path: &'static str,
    /// Smallest role.
    pub(crate) role: Role,
    /// Allowed without a certificate in maintenance mode.
    pub(crate) maintenance: bool,
}

const fn rule(path: &'static str, role: Role, maintenance: bool) -> Rule {
    Rule { path, role, maintenance }
}

/// The table. WHEN CHANGING: the comments of `machine.proto` say the same to operators.
pub(crate) const RULES: &[Rule] = &[
    rule("/ingot.machine.v1.Machine/Version", Role::Reader, true),
    // Makes sense only in maintenance mode; the RPC itself refuses elsewhere.
    rule("/ingot.machine.v1.Machine/Pair", Role::Admin, true),
    // In maintenance mode the RPC demands a pairing proof.
    rule("/ingot.machine.v1.Machine/ApplyConfig", Role::Admin, true),
    rule("/ingot.machine.v1.Machine/GetConfig", Role::Operator, false),
    rule("/ingot.machine.v1.Machine/Status", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/ListPods", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/PodStats", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/PodLogs", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/ListContainers", Role::Reader, false),
    // Whoever runs programs in containers, or reads and writes there, can do what the containers can.
    rule("/ingot.machine.v1.Machine/Exec", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/Attach", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/PortForward", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/CopyIn", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/CopyOut", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/ListImages", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/PullImage", Role::Operator, false),
    rule("/ingot.machine.v1.Machine/RemoveImage", Role::Operator, false),
    rule("/ingot.machine.v1.Machine/ImportImages", Role::Operator, false),
    // Whatever is packed into an image can be read, as with ReadFile.
    rule("/ingot.machine.v1.Machine/ExportImage", Role::Operator, false),
    rule("/ingot.machine.v1.Machine/CollectImages", Role::Operator, false),
    rule("/ingot.machine.v1.Machine/ListServices", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/RestartService", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/Dmesg", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/Events", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/Cgroups", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/ListFiles", Role::Operator, false),
    rule("/ingot.machine.v1.Machine/ReadFile", Role::Operator, false),
    // Makes the cluster's authorities; whoever has the kubeconfig may do everything in it.
    rule("/ingot.machine.v1.Machine/Bootstrap", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/Kubeconfig", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/JoinToken", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/PlanKubernetesUpgrade", Role::Operator, false),
    rule("/ingot.machine.v1.Machine/Health", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/EtcdMembers", Role::Reader, false),
    rule("/ingot.machine.v1.Machine/EtcdStatus", Role::Reader, false),
    // A snapshot holds everything of the cluster.
    rule("/ingot.machine.v1.Machine/EtcdSnapshot", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/EtcdRestore", Role::Admin, false),
    rule("/ingot.machine.v1.Machine/EtcdDefragment", Role::Operator, false),
    rule("/ingot.machine.v1.Machine/Reboot", Role::Operator, false),
    rule("/ingot.machine.v1.Machine/Shutdown", Role::Operator, false),
    rule("/grpc.health.v1.Health/Check", Role::Reader, true),
    rule("/grpc.health.v1.Health/Watch", Role::Reader, false),
    rule("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Role::Reader, false),
];

/// Who is on the other end of a connection, as the TLS handshake left it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// From where.
    pub(crate) address: SocketAddr,
    /// Name and role in the client's certificate; `None` on a connection of maintenance mode.
    pub(crate) client: Option<Client>,
    /// The certificate the node showed on this connection.
    pub(crate) server: Fingerprint,
}

/// A client that proved its certificate.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Common name.
    pub(crate) name: String,
    /// Role; `None` when the certificate names none.
    pub(crate) role: Option<Role>,
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// No such RPC.
    #[error("there is no RPC {0}")]
    Unknown(String),
    /// A role is needed and the connection has none, as it was made without a certificate.
    #[error("this call needs a client certificate with the role {0} or more")]
    NoCertificate(Role),
    /// The certificate names no role.
    #[error("the certificate of \"{name}\" names no role; this call needs {needed} or more")]
    NoRole {
        /// Common name.
        name: String,
        /// What is needed.
        needed: Role,
    },
    /// Too small a role.
    #[error("\"{name}\" has the role {role}; this call needs {needed} or more")]
    Role {
        /// Common name.
        name: String,
        /// What it has.
        role: Role,
        /// What is needed.
        needed: Role,
    },
    /// The connection is from before the config.
    #[error("this connection was made before the node had a config")]
    Outdated,
}

impl Denied {
    fn status(&self) -> Status {
        let (code, hint) = match self {
            Self::Unknown(_) => (
                Code::Unimplemented,
                "the node may run an older release; compare `ingotctl version`",
            ),
            Self::NoCertificate(_) => {
                (Code::Unauthenticated, "the node waits for its first config: `ingotctl apply`")
            }
            Self::NoRole { .. } | Self::Role { .. } => (
                Code::PermissionDenied,
                "use a context whose certificate has the role, or make one with `ingotctl gen client`",
            ),
            Self::Outdated => (
                Code::Unauthenticated,
                "connect again with a client certificate of the config's CA",
            ),
        };
        super::status::with_hint(code, self.to_string(), hint)
    }
}

/// Decides. `maintenance` is whether the node waits for its first config now.
pub(crate) fn decide(path: &str, peer: &Peer, maintenance: bool) -> Result<(), Denied> {
    let Some(rule) = RULES.iter().find(|rule| rule.path == path) else {
        return Err(Denied::Unknown(path.to_owned()));
    };
    match &peer.client {
        None if !maintenance => Err(Denied::Outdated),
        None if rule.maintenance => Ok(()),
        None => Err(Denied::NoCertificate(rule.role)),
        Some(Client { role: Some(role), .. }) if *role >= rule.role => Ok(()),
        Some(Client { name, role: Some(role) }) => {
            Err(Denied::Role { name: name.clone(), role: *role, needed: rule.role })
        }
        Some(Client { name, role: None }) => {
            Err(Denied::NoRole { name: name.clone(), needed: rule.role })
        }
    }
}

/// Whether the node waits for its first config; asked for each call.
pub(crate) type InMaintenance = Arc<dyn Fn() -> bool + Send + Sync>;

/// Puts [`decide`] before every RPC.
#[derive(Clone)]
pub(crate) struct AuthLayer {
    /// Where refusals are recorded.
    pub(crate) events: Events,
    /// The mode of the node.
    pub(crate) maintenance: InMaintenance,
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { inner, layer: self.clone() }
    }
}

/// See [`AuthLayer`].
#[derive(Clone)]
pub(crate) struct AuthService<S> {
    inner: S,
    layer: AuthLayer,
}

impl<S, B> Service<http::Request<B>> for AuthService<S>
where
    S: Service<http::Request<B>, Response = http::Response<tonic::body::Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let path = request.uri().path();
        let refused = match request.extensions().get::<Peer>() {
            // The accept loop puts a peer on every connection; without one nobody may do anything.
            None => Some(Status::unauthenticated("the connection has no peer")),
            Some(peer) => decide(path, peer, (self.layer.maintenance)()).err().map(|denied| {
                let message = format!("{path} from {}: {denied}", peer.address);
                self.layer.events.record(Severity::Warning, "PermissionDenied", "api", message);
                denied.status()
            }),
        };
        if let Some(status) = refused {
            return Box::pin(std::future::ready(Ok(status.into_http())));
        }
        Box::pin(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests;
