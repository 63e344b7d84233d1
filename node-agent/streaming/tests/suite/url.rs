//! URLs: what they are worth, and how requests that are not understood are answered.

use crate::backend::{IN_OUT, OUT, TTY, exec, server};
use crate::client::request;
use ingot_streaming::{PortForwardRequest, RequestError, Streams};

const SPDY: [(&str, &str); 3] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "SPDY/3.1"),
    ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
];

#[tokio::test]
async fn a_url_works_once() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let (_open, head) = request(&url, &SPDY).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_ascii_lowercase().contains("x-stream-protocol-version: v4.channel.k8s.io"));
    let (_, head) = request(&url, &SPDY).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn the_port_is_open_only_while_a_url_can_be_used() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let address = url.split('/').nth(2).unwrap().to_owned();
    tokio::net::TcpStream::connect(&address).await.expect("it is open");
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    tokio::net::TcpStream::connect(&address).await.expect_err("nobody may come any more");
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let (_open, head) = request(&url, &SPDY).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
}

#[tokio::test]
async fn a_token_is_worth_nothing_for_another_verb() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let (_, head) = request(&url.replace("/exec/", "/attach/"), &SPDY).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[tokio::test]
async fn requests_that_make_no_sense_get_no_url() {
    let (server, _) = server().await;
    let none = Streams::default();
    let both = Streams { stderr: true, ..TTY };
    for streams in [none, both] {
        let refused = server.exec_url(exec(&["cat"], streams));
        assert!(matches!(refused, Err(RequestError::Invalid(_))), "{refused:?}");
    }
    let refused =
        server.port_forward_url(PortForwardRequest { sandbox_id: "".into(), ports: vec![] });
    assert!(matches!(refused, Err(RequestError::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn unknown_protocols_are_refused_and_the_known_ones_named() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["cat"], OUT)).unwrap();
    let headers = [SPDY[0], SPDY[1], ("X-Stream-Protocol-Version", "v9.channel.k8s.io")];
    let (_, head) = request(&url, &headers).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io"), "{head}");
}

#[tokio::test]
async fn requests_without_an_upgrade_are_refused() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["cat"], OUT)).unwrap();
    let (_, head) = request(&url, &[]).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
}
