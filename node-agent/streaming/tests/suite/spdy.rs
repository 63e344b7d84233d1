//! Exec and attach over SPDY/3.1.

use crate::backend::{IN_OUT, OUT, OUT_ERR, PATIENCE, TTY, ending, exec, server};
use crate::client::{Event, Received, Spdy, spdy};
use ingot_streaming::{AttachRequest, Streams};
use tokio::net::TcpStream;

/// Opens the streams that a request asks for, in client-go's order: error, stdin, stdout, stderr, resize.
async fn open(client: &mut Spdy<TcpStream>, streams: Streams) -> Vec<u32> {
    let wanted = [
        (true, "error"),
        (streams.stdin, "stdin"),
        (streams.stdout, "stdout"),
        (streams.stderr, "stderr"),
        (streams.tty, "resize"),
    ];
    let mut opened = Vec::new();
    for (_, kind) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
        let id = client.open(&[("streamType", kind)]).await;
        assert_eq!(client.event().await, Event::Reply(id));
        opened.push(id);
    }
    opened
}

fn ended(text: &str) -> Received {
    Received { bytes: text.into(), ended: true, reset: false }
}

async fn status_of(command: &[&str], protocol: &str) -> String {
    let (server, _) = server().await;
    let url = server.exec_url(exec(command, OUT)).unwrap();
    let mut client = spdy(&url, protocol).await;
    let ids = open(&mut client, OUT).await;
    let received = client.receive(&ids).await;
    String::from_utf8(received[&ids[0]].bytes.clone()).unwrap()
}

#[tokio::test]
async fn standard_input_comes_back_and_its_end_ends_the_program() {
    let (server, mut endings) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    let ids = open(&mut client, IN_OUT).await;
    client.send(ids[1], b"hello ", false).await.unwrap();
    client.send(ids[1], b"world", false).await.unwrap();
    client.send(ids[1], b"", true).await.unwrap();
    let received = client.receive(&ids).await;
    assert_eq!(received[&ids[2]], ended("hello world"));
    assert_eq!(received[&ids[0]], ended(r#"{"metadata":{},"status":"Success"}"#));
    assert_eq!(ending(&mut endings).await, "ended");
    assert_eq!(client.event().await, Event::Closed);
}

#[tokio::test]
async fn output_and_errors_are_apart() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["both", "out", "err"], OUT_ERR)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    let ids = open(&mut client, OUT_ERR).await;
    let received = client.receive(&ids).await;
    assert_eq!(received[&ids[1]], ended("out"));
    assert_eq!(received[&ids[2]], ended("err"));
}

#[tokio::test]
async fn an_exit_code_is_a_status_with_a_cause() {
    let status = status_of(&["exit", "42"], "v4.channel.k8s.io").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["status"], "Failure");
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["reason"], "ExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "42");
}

#[tokio::test]
async fn a_backend_that_fails_is_an_internal_error() {
    let status = status_of(&["fail"], "v4.channel.k8s.io").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["reason"], "InternalError");
    assert!(status["message"].as_str().unwrap().contains("no such program"), "{status}");
}

#[tokio::test]
async fn older_protocols_get_text_and_only_of_failures() {
    for protocol in ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"] {
        assert_eq!(status_of(&["exit", "0"], protocol).await, "");
        let text = status_of(&["exit", "3"], protocol).await;
        assert_eq!(text, "command terminated with non-zero exit code: 3");
    }
}

#[tokio::test]
async fn sizes_of_the_terminal_arrive() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["sizes", "2"], TTY)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    let ids = open(&mut client, TTY).await;
    client.send(ids[3], b"{\"Width\":80,\"Height\":24}\n", false).await.unwrap();
    assert_eq!(client.event().await, Event::Data(ids[2], b"80x24\n".to_vec()));
    client.send(ids[3], b"{\"Width\":100,", false).await.unwrap();
    client.send(ids[3], b"\"Height\":50}\n", false).await.unwrap();
    let received = client.receive(&ids).await;
    assert_eq!(received[&ids[2]], ended("100x50\n"));
}

#[tokio::test]
async fn attach_reaches_the_container() {
    let (server, _) = server().await;
    let request = AttachRequest { container_id: "web".to_owned(), streams: OUT };
    let mut client = spdy(&server.attach_url(request).unwrap(), "v4.channel.k8s.io").await;
    let ids = open(&mut client, OUT).await;
    let received = client.receive(&ids).await;
    assert_eq!(received[&ids[1]], ended("attached to web\n"));
}

#[tokio::test]
async fn more_than_the_first_window_of_output_arrives_though_the_client_never_opens_it() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["zeros", "3000000"], OUT)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    let ids = open(&mut client, OUT).await;
    let received = client.receive(&ids).await;
    assert_eq!(received[&ids[1]].bytes.len(), 3_000_000);
}

#[tokio::test]
async fn one_frame_longer_than_any_buffer_is_taken_in_pieces() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["drain"], IN_OUT)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    let ids = open(&mut client, IN_OUT).await;
    client.send(ids[1], &vec![7; 8_000_000], true).await.unwrap();
    let received = client.receive(&ids).await;
    assert_eq!(received[&ids[2]], ended("8000000\n"));
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_program_and_not_its_own_input() {
    let (server, mut endings) = server().await;
    let url = server.exec_url(exec(&["zeros", "1000000000"], IN_OUT)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    let ids = open(&mut client, IN_OUT).await;
    // Fills every buffer; the program would end if there were no bound.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(endings.try_recv().is_err(), "a gigabyte was taken from the program");
    for _ in 0..1000 {
        let sent = client.send(ids[1], &[0; 8], false);
        tokio::time::timeout(PATIENCE, sent).await.unwrap().unwrap();
    }
    drop(client);
    assert_eq!(ending(&mut endings).await, "failed");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_ends_a_program_that_takes_no_input() {
    let (server, mut endings) = server().await;
    let url = server.exec_url(exec(&["deaf"], IN_OUT)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    let ids = open(&mut client, IN_OUT).await;
    // More than the pipe holds, so that nobody reads from the connection when it closes.
    client.send(ids[1], &[0; 40_000], false).await.unwrap();
    drop(client);
    assert_eq!(ending(&mut endings).await, "dropped");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_no_streams_is_dropped() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    assert_eq!(client.event().await, Event::Closed);
}

#[tokio::test]
async fn pings_are_answered_while_the_program_runs() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    open(&mut client, IN_OUT).await;
    client.control(6, &7_u32.to_be_bytes()).await;
    assert_eq!(client.event().await, Event::Pong(7));
}

#[tokio::test]
async fn streams_that_were_not_asked_for_are_refused() {
    let (server, _) = server().await;
    let url = server.exec_url(exec(&["exit", "0"], OUT)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    let stdin = client.open(&[("streamType", "stdin")]).await;
    let nonsense = client.open(&[("x", "y")]).await;
    let received = client.receive(&[stdin, nonsense]).await;
    assert!(received[&stdin].reset && received[&nonsense].reset);
    let ids = open(&mut client, OUT).await;
    assert!(client.receive(&ids).await[&ids[0]].ended);
}

#[tokio::test]
async fn nonsense_closes_the_connection() {
    let (server, _) = server().await;
    for nonsense in [&[0xff; 64][..], &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff, 0, 0]] {
        let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
        let mut client = spdy(&url, "v4.channel.k8s.io").await;
        let written = tokio::io::AsyncWriteExt::write_all(&mut client.stream, nonsense).await;
        written.unwrap();
        assert_eq!(client.event().await, Event::Closed);
    }
}

#[tokio::test]
async fn dropping_the_server_ends_what_runs() {
    let (server, mut endings) = server().await;
    let url = server.exec_url(exec(&["cat"], IN_OUT)).unwrap();
    let mut client = spdy(&url, "v4.channel.k8s.io").await;
    open(&mut client, IN_OUT).await;
    drop(server);
    assert_eq!(ending(&mut endings).await, "dropped");
    assert_eq!(client.event().await, Event::Closed);
}
