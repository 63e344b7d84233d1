//! Port-forward over SPDY/3.1, plain and tunnelled.

use crate::backend::{ending, server};
use crate::client::{Event, Spdy, spdy};
use ingot_streaming::PortForwardRequest;
use tokio::io::{AsyncRead, AsyncWrite};

fn request() -> PortForwardRequest {
    PortForwardRequest { sandbox_id: "pod".to_owned(), ports: vec![80] }
}

/// Opens a pair of streams as client-go does, the error stream first.
async fn pair<C: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Spdy<C>,
    request: &str,
    port: &str,
) -> (u32, u32) {
    let headers = |kind| [("streamType", kind), ("port", port), ("requestID", request)];
    let error = client.open(&headers("error")).await;
    client.send(error, b"", true).await.unwrap();
    (error, client.open(&headers("data")).await)
}

pub(crate) async fn talk<C: AsyncRead + AsyncWrite + Unpin>(client: &mut Spdy<C>) {
    let (error, data) = pair(client, "0", "80").await;
    let (other_error, other_data) = pair(client, "1", "8080").await;
    client.send(data, b"ping", true).await.unwrap();
    client.send(other_data, b"pong", true).await.unwrap();
    let received = client.receive(&[error, data, other_error, other_data]).await;
    assert_eq!(received[&data].bytes, b"pod:80\nping");
    assert_eq!(received[&other_data].bytes, b"pod:8080\npong");
    assert!(received[&error].bytes.is_empty() && received[&other_error].bytes.is_empty());
}

#[tokio::test]
async fn connections_are_carried_side_by_side() {
    let (server, _) = server().await;
    let url = server.port_forward_url(request()).unwrap();
    talk(&mut spdy(&url, "portforward.k8s.io").await).await;
}

#[tokio::test]
async fn a_thousand_connections_one_after_the_other_leave_nothing() {
    let (server, _) = server().await;
    let url = server.port_forward_url(request()).unwrap();
    let mut client = spdy(&url, "portforward.k8s.io").await;
    for number in 0..1000 {
        let (error, data) = pair(&mut client, &number.to_string(), "80").await;
        client.send(data, b"", true).await.unwrap();
        let received = client.receive(&[error, data]).await;
        assert_eq!(received[&data].bytes, b"pod:80\n", "{number}");
    }
}

#[tokio::test]
async fn a_refused_connection_says_why_and_the_next_one_works() {
    let (server, mut endings) = server().await;
    let url = server.port_forward_url(request()).unwrap();
    let mut client = spdy(&url, "portforward.k8s.io").await;
    let (error, data) = pair(&mut client, "0", "1").await;
    let received = client.receive(&[error, data]).await;
    let text = String::from_utf8(received[&error].bytes.clone()).unwrap();
    assert_eq!(text, "error forwarding port 1: nothing listens there");
    assert_eq!(ending(&mut endings).await, "refused");
    talk(&mut client).await;
}

#[tokio::test]
async fn clients_without_request_ids_are_paired_by_number() {
    let (server, _) = server().await;
    let url = server.port_forward_url(request()).unwrap();
    let mut client = spdy(&url, "portforward.k8s.io").await;
    let error = client.open(&[("streamType", "error"), ("port", "80")]).await;
    let data = client.open(&[("streamType", "data"), ("port", "80")]).await;
    client.send(data, b"", true).await.unwrap();
    assert_eq!(client.receive(&[error, data]).await[&data].bytes, b"pod:80\n");
}

#[tokio::test]
async fn streams_with_nonsense_for_headers_are_refused() {
    let (server, _) = server().await;
    let url = server.port_forward_url(request()).unwrap();
    let mut client = spdy(&url, "portforward.k8s.io").await;
    for (port, kind) in [("0", "data"), ("70000", "data"), ("x", "error"), ("80", "x")] {
        let id = client.open(&[("streamType", kind), ("port", port)]).await;
        assert!(client.receive(&[id]).await[&id].reset, "{port} {kind}");
    }
}

#[tokio::test]
async fn a_client_that_goes_ends_its_connections() {
    let (server, mut endings) = server().await;
    let url = server.port_forward_url(request()).unwrap();
    let mut client = spdy(&url, "portforward.k8s.io").await;
    let (_, data) = pair(&mut client, "0", "80").await;
    loop {
        if let Event::Data(id, _) = client.event().await {
            break assert_eq!(id, data);
        }
    }
    drop(client);
    // It reads the end and its last write fails or not; either way it is over by itself.
    assert_ne!(ending(&mut endings).await, "dropped");
}

#[tokio::test(start_paused = true)]
async fn half_a_pair_is_given_up() {
    let (server, _) = server().await;
    let url = server.port_forward_url(request()).unwrap();
    let mut client = spdy(&url, "portforward.k8s.io").await;
    let headers = [("streamType", "error"), ("port", "80"), ("requestID", "0")];
    let error = client.open(&headers).await;
    let received = client.receive(&[error]).await;
    assert!(String::from_utf8_lossy(&received[&error].bytes).contains("timed out"));
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let (server, _) = server().await;
    let url = server.port_forward_url(request()).unwrap();
    let mut client = spdy(&url, "portforward.k8s.io").await;
    let mut last = 0;
    for number in 0..=256 {
        let (_, data) = pair(&mut client, &number.to_string(), "80").await;
        last = data;
    }
    assert!(client.receive(&[last]).await[&last].reset);
}
