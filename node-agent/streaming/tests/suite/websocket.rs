//! Exec and port-forward over WebSocket.

use crate::backend::{IN_OUT, OUT, PATIENCE, TTY, ending, exec, server};
use crate::client::{Spdy, assert_upgraded, request};
use crate::port_forward::talk;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt as _, StreamExt as _};
use ingot_streaming::PortForwardRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

type Socket = WebSocketStream<TcpStream>;

async fn connect(url: &str, protocol: &str) -> Socket {
    let mut headers = vec![
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    if !protocol.is_empty() {
        headers.push(("Sec-WebSocket-Protocol", protocol));
    }
    let (stream, head) = request(url, &headers).await;
    assert_upgraded(&head, "websocket");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(head.to_ascii_lowercase().contains("sec-websocket-protocol"), !protocol.is_empty());
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

async fn send(socket: &mut Socket, message: &[u8]) {
    socket.send(Message::Binary(message.to_vec().into())).await.unwrap();
}

/// Everything until the server closes, by channel.
async fn receive(socket: &mut Socket) -> [Vec<u8>; 5] {
    let mut channels: [Vec<u8>; 5] = Default::default();
    while let Some(message) = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
        match message.unwrap() {
            Message::Binary(bytes) => channels[usize::from(bytes[0])].extend(&bytes[1..]),
            Message::Text(text) => {
                let (channel, data) = text.split_at(1);
                let data = STANDARD.decode(data).unwrap();
                channels[channel.parse::<usize>().unwrap()].extend(data);
            }
            Message::Close(frame) => {
                // client-go takes any other end for a broken connection.
                assert_eq!(frame.unwrap().code, CloseCode::Normal);
            }
            _ => {}
        }
    }
    channels
}

const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;

#[tokio::test]
async fn in_v5_a_channel_can_be_half_closed() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    send(&mut socket, b"\x00hello").await;
    send(&mut socket, &[255, 0]).await;
    let channels = receive(&mut socket).await;
    assert_eq!(channels[1], b"hello");
    assert_eq!(channels[3], SUCCESS);
}

#[tokio::test]
async fn an_exit_code_arrives_before_the_connection_closes() {
    for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"] {
        let (server, _) = server().await;
        let url = server.exec_url(exec(&["exit", "7"], OUT)).unwrap();
        let channels = receive(&mut connect(&url, protocol).await).await;
        let status: serde_json::Value = serde_json::from_slice(&channels[3]).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "7", "{protocol}");
    }
}

#[tokio::test]
async fn base64_and_nameless_clients_are_understood() {
    for protocol in ["base64.channel.k8s.io", "channel.k8s.io", ""] {
        let (server, _) = server().await;
        let url = server.exec_url(exec(&["sizes", "1"], TTY)).unwrap();
        let mut socket = connect(&url, protocol).await;
        let size = br#"{"Width":80,"Height":24}"#;
        if protocol.starts_with("base64") {
            let text = format!("4{}", STANDARD.encode(size));
            socket.send(Message::text(text)).await.unwrap();
        } else {
            send(&mut socket, &[&[4], &size[..]].concat()).await;
        }
        let channels = receive(&mut socket).await;
        assert_eq!(channels[1], b"80x24\n", "{protocol}");
        assert_eq!(channels[3], b"", "{protocol}");
    }
}

#[tokio::test]
async fn much_output_arrives_in_full() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["zeros", "3000000"], OUT)).unwrap();
    let channels = receive(&mut connect(&url, "v5.channel.k8s.io").await).await;
    assert_eq!(channels[1].len(), 3_000_000);
    assert_eq!(channels[3], SUCCESS);
}

#[tokio::test]
async fn messages_for_no_channel_are_ignored() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    for nonsense in [&[][..], &[9, 1], &[1, 1], &[255], &[255, 200], &[255, 0, 0]] {
        send(&mut socket, nonsense).await;
    }
    send(&mut socket, b"\x00x").await;
    send(&mut socket, &[255, 0]).await;
    assert_eq!(receive(&mut socket).await[1], b"x");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_ends_a_program_that_takes_no_input() {
    let (server, mut endings) = server().await;
    let url = server.exec_url(exec(&["deaf"], IN_OUT)).unwrap();
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    send(&mut socket, &[0; 40_000]).await;
    drop(socket);
    assert_eq!(ending(&mut endings).await, "dropped");
}

#[tokio::test]
async fn a_message_of_more_than_a_mebibyte_closes_the_connection() {
    let (server, mut endings) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    let sent = socket.send(Message::Binary(vec![0; 1024 * 1024 + 2].into())).await;
    drop(sent);
    assert_eq!(ending(&mut endings).await, "ended");
}

#[tokio::test]
async fn port_forward_is_tunnelled() {
    let (server, _) = server().await;
    let request = PortForwardRequest { sandbox_id: "pod".to_owned(), ports: vec![] };
    let url = server.port_forward_url(request).unwrap();
    let socket = connect(&url, "SPDY/3.1+portforward.k8s.io").await;
    talk(&mut Spdy::new(bytes_of(socket))).await;
}

/// A byte stream over binary messages.
fn bytes_of(socket: Socket) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(4096);
    let (mut from, mut to) = tokio::io::split(ours);
    let (mut sink, mut source) = socket.split();
    tokio::spawn(async move {
        let mut chunk = [0; 100];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            sink.send(Message::Binary(chunk[..count].to_vec().into())).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = source.next().await {
            if to.write_all(&message.into_data()).await.is_err() {
                return;
            }
        }
    });
    theirs
}

#[tokio::test]
async fn old_clients_get_two_channels_for_each_port() {
    let (server, _) = server().await;
    let request = PortForwardRequest { sandbox_id: "pod".to_owned(), ports: vec![80, 1] };
    let url = server.port_forward_url(request).unwrap();
    let mut socket = connect(&url, "v4.channel.k8s.io").await;
    let mut channels: [Vec<u8>; 4] = Default::default();
    while channels[0].len() < 9 || channels[3].len() < 40 {
        let message =
            tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        if let Message::Binary(bytes) = message {
            channels[usize::from(bytes[0])].extend(&bytes[1..]);
        }
    }
    assert_eq!(channels[0], b"\x50\x00pod:80\n");
    assert_eq!(channels[1], b"\x50\x00");
    assert_eq!(channels[3], b"\x01\x00error forwarding port 1: nothing listens there");
}
