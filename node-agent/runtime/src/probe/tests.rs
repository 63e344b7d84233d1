//! Judging, and asking real sockets of this process.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn probe(success_threshold: u32, failure_threshold: u32) -> Probe {
    Probe { success_threshold, failure_threshold, ..Probe::default() }
}

#[test]
fn a_probe_changes_its_mind_after_so_many_answers_in_a_row() {
    let mut judge = Judge::new(Kind::Readiness, &probe(2, 3));
    let answers = [true, false, true, true, true, false, false, true, false, false, false, false];
    let verdicts: Vec<_> = answers.map(|answer| judge.take(answer)).into();
    let mut expected = vec![None; 12];
    expected[3] = Some(true);
    expected[10] = Some(false);
    assert_eq!(verdicts, expected);
}

#[test]
fn a_container_lives_until_it_fails_and_has_not_started_until_it_passes() {
    assert_eq!(Judge::new(Kind::Liveness, &probe(1, 1)).take(true), None);
    assert_eq!(Judge::new(Kind::Liveness, &probe(1, 1)).take(false), Some(false));
    assert_eq!(Judge::new(Kind::Startup, &probe(1, 3)).take(true), Some(true));
    assert_eq!(Judge::new(Kind::Readiness, &probe(1, 1)).resume(true).take(true), None);
}

proptest! {
    #[test]
    fn verdicts_alternate_and_rest_on_a_row_of_their_kind(
        success in 1_u32..4,
        failure in 1_u32..4,
        answers in proptest::collection::vec(any::<bool>(), 0..50),
    ) {
        let mut judge = Judge::new(Kind::Startup, &probe(success, failure));
        let mut last = None;
        for (index, answer) in answers.iter().enumerate() {
            let row = answers[..=index].iter().rev().take_while(|other| *other == answer).count();
            if let Some(verdict) = judge.take(*answer) {
                prop_assert_eq!(verdict, *answer);
                prop_assert_ne!(last, Some(verdict));
                let needed = if verdict { success } else { failure };
                prop_assert!(row >= usize::try_from(needed).unwrap());
                last = Some(verdict);
            }
        }
    }
}

/// A server that answers its first connection with `answer`; its port, and what it was asked.
async fn server(answer: &'static [u8]) -> (u16, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let count = stream.read(&mut asked).await.unwrap();
        asked.truncate(count);
        stream.write_all(answer).await.unwrap();
        asked
    });
    (port, asked)
}

async fn ask_http(answer: &'static [u8]) -> (Result<(), String>, String) {
    let (port, asked) = server(answer).await;
    let action = HttpGetAction { path: "ready?x=1".into(), ..HttpGetAction::default() };
    let question = Question::Http(action, port);
    let result = ask(&question, IpAddr::from([127, 0, 0, 1]), Duration::from_secs(30)).await;
    (result, String::from_utf8(asked.await.unwrap()).unwrap())
}

#[tokio::test]
async fn http_is_a_yes_from_200_to_399() {
    let (result, asked) = ask_http(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(result, Ok(()));
    assert!(asked.starts_with("GET /ready?x=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nHost: 127.0.0.1:"), "{asked}");
    assert_eq!(ask_http(b"HTTP/1.0 302 Found\r\n\r\n").await.0, Ok(()));
    let (result, _) = ask_http(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
    assert_eq!(result, Err("HTTP probe failed with status code 503".to_owned()));
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_no() {
    assert!(ask_http(b"SSH-2.0-x\r\n").await.0.is_err());
    assert!(ask_http(b"").await.0.is_err());
    assert!(ask_http(b"HTTP/1.1 2x0 OK\r\n").await.0.is_err());
    assert!(ask_http(&[b'a'; 10_000]).await.0.is_err());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_a_no_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = IpAddr::from([127, 0, 0, 1]);
    let http = Question::Http(HttpGetAction::default(), port);
    assert!(ask(&http, address, Duration::from_millis(50)).await.unwrap_err().contains("within"));
    let grpc = Question::Grpc(GrpcAction { port, service: None });
    assert!(ask(&grpc, address, Duration::from_millis(50)).await.unwrap_err().contains("within"));
    let tcp = Question::Tcp(TcpSocketAction::default(), port);
    assert_eq!(ask(&tcp, address, Duration::from_secs(30)).await, Ok(()));
    drop(listener);
    assert!(ask(&tcp, address, Duration::from_secs(30)).await.is_err());
}

/// A health service that answers `status` to whoever asks for "web", as HTTP/2.
async fn health(status: u8) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(request) = connection.accept().await {
            let (request, mut respond) = request.unwrap();
            tokio::spawn(async move {
                let data = request.into_body().data().await.unwrap().unwrap();
                assert_eq!(&data[..], b"\0\0\0\0\x05\x0a\x03web");
                let response = ::http::Response::new(());
                let mut body = respond.send_response(response, false).unwrap();
                body.send_data(vec![0, 0, 0, 0, 2, 8, status].into(), false).unwrap();
                let mut trailers = ::http::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                body.send_trailers(trailers).unwrap();
            });
        }
    });
    port
}

#[tokio::test]
async fn grpc_is_a_yes_when_the_service_is_serving() {
    for (status, yes) in [(1, true), (2, false), (3, false)] {
        let port = health(status).await;
        let question = Question::Grpc(GrpcAction { port, service: Some("web".into()) });
        let result = ask(&question, IpAddr::from([127, 0, 0, 1]), Duration::from_secs(30)).await;
        assert_eq!(result.is_ok(), yes, "{result:?}");
    }
}

#[test]
fn messages_are_short_and_of_one_line() {
    assert_eq!(shortened("a\nb\u{1b}[31m"), "a b [31m");
    assert!(shortened(&"ä".repeat(2000)).len() <= MESSAGE_MAX);
}
