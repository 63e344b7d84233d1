//! Port-forward: many connections to ports of a sandbox over one connection, each a pair of a data and an error stream.

use crate::backend::{Backend, BackendError, chain};
use crate::link::Link;
use crate::request::PortForwardRequest;
use crate::spdy::{Opened, Session};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long the second stream of a pair may take to come; the kubelet's own library gives as long.
const STREAM_CREATION: Duration = Duration::from_secs(30);

/// How long a backend may take to notice by itself that the caller has gone, before it is dropped.
const GRACE: Duration = Duration::from_secs(10);

/// Streams of one caller, two for each of its connections. Browsers and load tests open hundreds.
pub(crate) const MAX_STREAMS: usize = 512;

/// Serves a SPDY client until it has gone.
pub(crate) async fn run(backend: Arc<dyn Backend>, sandbox_id: String, mut session: Session) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut pairs = JoinSet::new();
    loop {
        let oldest = halves.values().map(|half| half.deadline).min();
        let opened = tokio::select! {
            opened = session.opened() => opened,
            () = at(oldest) => {
                expire(&mut halves).await;
                continue;
            }
            Some(_) = pairs.join_next() => continue,
        };
        let Some(opened) = opened else { break };
        let Some((key, kind, port)) = read_headers(&opened) else {
            opened.reset().await;
            continue;
        };
        let deadline = Instant::now() + STREAM_CREATION;
        let half = halves.entry(key.clone()).or_insert_with(|| Half::none(deadline));
        let place = match kind {
            Kind::Data => &mut half.data,
            Kind::Error => &mut half.error,
        };
        if place.is_some() {
            opened.reset().await;
            continue;
        }
        *place = Some((opened, port));
        if half.data.is_some() && half.error.is_some() {
            let Some(Half { data: Some((data, port)), error: Some((error, _)), .. }) =
                halves.remove(&key)
            else {
                continue;
            };
            pairs.spawn(serve_pair(Arc::clone(&backend), sandbox_id.clone(), port, data, error));
        }
    }
    let all = async { while pairs.join_next().await.is_some() {} };
    // Those that do not notice are dropped with the set.
    let _late = tokio::time::timeout(GRACE, all).await;
}

/// A pair of which at most one stream is there.
struct Half {
    data: Option<(Opened, u16)>,
    error: Option<(Opened, u16)>,
    deadline: Instant,
}

impl Half {
    fn none(deadline: Instant) -> Self {
        Self { data: None, error: None, deadline }
    }
}

enum Kind {
    Data,
    Error,
}

/// What a stream belongs to, what it is for, and which port it names.
fn read_headers(opened: &Opened) -> Option<(String, Kind, u16)> {
    let port = opened.headers.get("port")?.parse().ok().filter(|port| *port > 0)?;
    let kind = match opened.headers.get("streamType")? {
        "data" => Kind::Data,
        "error" => Kind::Error,
        _ => return None,
    };
    let key = match opened.headers.get("requestID").filter(|id| !id.is_empty()) {
        Some(id) => id.to_owned(),
        // Clients before requestID open the error stream and then the data stream, with the next number.
        None => match kind {
            Kind::Error => opened.id.to_string(),
            Kind::Data => opened.id.saturating_sub(2).to_string(),
        },
    };
    Some((key, kind, port))
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn expire(halves: &mut HashMap<String, Half>) {
    let now = Instant::now();
    let late: Vec<_> = halves.extract_if(|_, half| half.deadline <= now).collect();
    for (_, half) in late {
        if let Some((mut error, _)) = half.error {
            let text = b"timed out waiting for the data stream of this connection";
            let _gone = error.pipe.write_all(text).await;
        }
        if let Some((data, _)) = half.data {
            data.reset().await;
        }
    }
}

async fn serve_pair(
    backend: Arc<dyn Backend>,
    sandbox_id: String,
    port: u16,
    data: Opened,
    mut error: Opened,
) {
    let (pipe, reset) = data.split();
    let result = backend.port_forward(sandbox_id, port, Box::new(pipe)).await;
    if let Err(reason) = result {
        let _gone = error.pipe.write_all(refusal(port, &reason).as_bytes()).await;
        // The caller's program has to see a broken connection, not one that ended well.
        reset.await;
    }
}

fn refusal(port: u16, reason: &BackendError) -> String {
    format!("error forwarding port {port}: {}", chain(reason))
}

/// Serves a WebSocket client, whose ports were fixed by the request: a data and an error channel for each.
pub(crate) async fn run_fixed(
    backend: Arc<dyn Backend>,
    request: PortForwardRequest,
    channels: Vec<(DuplexStream, DuplexStream)>,
    link: &mut Link,
) {
    let mut pairs = JoinSet::new();
    for (port, (mut data, mut error)) in request.ports.into_iter().zip(channels) {
        let (backend, sandbox_id) = (Arc::clone(&backend), request.sandbox_id.clone());
        pairs.spawn(async move {
            // Each channel begins with its port; a caller that has gone is noticed by the backend.
            let _gone = data.write_all(&port.to_le_bytes()).await;
            let _gone = error.write_all(&port.to_le_bytes()).await;
            if let Err(reason) = backend.port_forward(sandbox_id, port, Box::new(data)).await {
                let _gone = error.write_all(refusal(port, &reason).as_bytes()).await;
            }
        });
    }
    let all = async {
        while pairs.join_next().await.is_some() {}
        // Until the caller has it all.
        std::future::pending().await
    };
    tokio::select! {
        () = all => {}
        () = link.over() => {}
    }
}
