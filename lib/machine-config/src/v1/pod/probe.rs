//! Probes and hooks: what the node asks a running container, and what it does at its start and end.

use crate::format;
use crate::v1::is_default;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A question to a running container that is repeated. Exactly one of `exec`, `httpGet`, `tcpSocket` and `grpc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// Passes when this command ends with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Passes when the answer is 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,
    /// Passes when the port can be connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Passes when gRPC's health service answers SERVING.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcAction>,
    /// Seconds from the start of the container to the first question.
    #[schemars(range(min = 0, max = 86_400), extend("default" = 0))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub initial_delay_seconds: u32,
    /// Seconds after which no answer is a failure.
    #[schemars(range(min = 1, max = 3600), extend("default" = 1))]
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub timeout_seconds: u32,
    /// Seconds from one question to the next.
    #[schemars(range(min = 1, max = 86_400), extend("default" = 10))]
    #[serde(default = "ten", skip_serializing_if = "is_ten")]
    pub period_seconds: u32,
    /// Passed questions in a row that make the probe pass. Must be 1 but for a readiness probe.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub success_threshold: u32,
    /// Failed questions in a row that make the probe fail.
    #[schemars(range(min = 1, max = 100_000), extend("default" = 3))]
    #[serde(default = "three", skip_serializing_if = "is_three")]
    pub failure_threshold: u32,
    /// Seconds between asking a container to stop and killing it when this probe has failed, instead of the pod's. Not for
    /// a readiness probe.
    #[schemars(range(min = 1, max = 86_400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u32>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            exec: None,
            http_get: None,
            tcp_socket: None,
            grpc: None,
            initial_delay_seconds: 0,
            timeout_seconds: 1,
            period_seconds: 10,
            success_threshold: 1,
            failure_threshold: 3,
            termination_grace_period_seconds: None,
        }
    }
}

/// What is done at the start and at the end of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lifecycle {
    /// Done right after the start. The container counts as started when it is over; when it fails, the container is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Hook>,
    /// Done before the container is asked to stop, within the grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Hook>,
    /// Signal that asks the container to stop, like `SIGUSR1`; when not given the image's, else SIGTERM.
    #[schemars(with = "Option<format::SignalName>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// What a hook does: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// Executes a command in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Asks over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,
    /// Connects to a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<SleepAction>,
}

/// A command to execute in the container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecAction {
    /// Program and arguments; no shell is involved.
    #[schemars(length(min = 1, max = 4096))]
    pub command: Vec<String>,
}

/// A question over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpGetAction {
    /// Path on the server; `/` when not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Port: a number, or the name of one of the container's ports.
    #[schemars(with = "format::PortReference")]
    pub port: String,
    /// Host to connect to, instead of the pod's address.
    #[schemars(with = "Option<format::Host>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// With or without TLS; certificates are not checked.
    #[schemars(extend("default" = "HTTP"))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheme: Scheme,
    /// Headers to send.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_headers: Vec<HttpHeader>,
}

/// With or without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Scheme {
    /// Without.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// With.
    #[serde(rename = "HTTPS")]
    Https,
}

/// A header of an HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpHeader {
    /// Name of the header.
    #[schemars(with = "format::HeaderName")]
    pub name: String,
    /// Its value.
    #[schemars(with = "format::HeaderValue")]
    #[serde(default)]
    pub value: String,
}

/// A port to connect to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpSocketAction {
    /// Port: a number, or the name of one of the container's ports.
    #[schemars(with = "format::PortReference")]
    pub port: String,
    /// Host to connect to, instead of the pod's address.
    #[schemars(with = "Option<format::Host>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A question to gRPC's health service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcAction {
    /// Port of the server.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// Name of the service to ask for; when not given, the whole server.
    #[schemars(with = "Option<format::HeaderValue>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SleepAction {
    /// How long, in seconds.
    #[schemars(range(min = 0, max = 86_400))]
    pub seconds: u32,
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn ten() -> u32 {
    10
}

/// Declares predicates for serde, which passes references.
macro_rules! is {
    ($($name:ident $number:literal)*) => {$(
        fn $name(number: &u32) -> bool {
            *number == $number
        }
    )*};
}

is! { is_one 1 is_three 3 is_ten 10 }
