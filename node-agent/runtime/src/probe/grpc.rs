//! One call of `grpc.health.v1.Health/Check`. The two messages have one field each, so they are written and read by hand: the
//! engine knows no protobuf.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};

/// Longest answer, in bytes: the message is one number.
const ANSWER_MAX: usize = 4096;

/// `ServingStatus.SERVING`.
const SERVING: u8 = 1;

/// Asks for a service; empty is the whole server.
pub(super) async fn check(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: &str,
) -> Result<(), String> {
    let failed = |error: h2::Error| format!("gRPC: {error}");
    let (mut sender, connection) = h2::client::handshake(stream).await.map_err(failed)?;
    // Ends when the sender is gone, or with the runtime.
    let connection = AbortOnDrop(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let request = Request::post(Uri::from_static("http://probe/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", concat!("ingot-probe/", env!("CARGO_PKG_VERSION")))
        .body(())
        .map_err(|error| format!("gRPC: {error}"))?;
    let (response, mut body) = sender.send_request(request, false).map_err(failed)?;
    body.send_data(message(service), true).map_err(failed)?;
    let response = response.await.map_err(failed)?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("gRPC: HTTP status {}", response.status()));
    }
    let early = grpc_status(response.headers());
    let mut body = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(failed)?;
        answer.put_slice(&data);
        body.flow_control().release_capacity(data.len()).map_err(failed)?;
        if answer.len() > ANSWER_MAX {
            return Err("gRPC: the answer is too long".to_owned());
        }
    }
    let trailers = body.trailers().await.map_err(failed)?;
    drop(connection);
    match early.or(trailers.as_ref().and_then(grpc_status)) {
        Some(0) => judge(&answer),
        Some(status) => Err(format!("gRPC: the health service answers with status {status}")),
        None => Err("gRPC: the answer has no status".to_owned()),
    }
}

/// Ends a task that nobody waits for.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// `HealthCheckRequest { string service = 1; }` behind the prefix of a gRPC message.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        field.put_u8(u8::try_from(length).unwrap_or(0));
        field.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(field.len()).unwrap_or(0));
    framed.put_slice(&field);
    framed.freeze()
}

/// `HealthCheckResponse { ServingStatus status = 1; }` behind its prefix.
fn judge(answer: &[u8]) -> Result<(), String> {
    match answer.get(5..).unwrap_or_default() {
        [0x08, SERVING, ..] => Ok(()),
        [0x08, 2, ..] => Err("gRPC: the service is NOT_SERVING".to_owned()),
        _ => Err("gRPC: the state of the service is not known".to_owned()),
    }
}
